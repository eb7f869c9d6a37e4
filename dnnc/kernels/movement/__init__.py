"""Copies, transpositions and lookups."""
