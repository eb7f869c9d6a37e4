"""Comparisons with other frameworks on the same machine, data and settings."""
