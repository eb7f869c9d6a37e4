"""Pooling with channels last."""
