"""Convolutions with channels last."""
