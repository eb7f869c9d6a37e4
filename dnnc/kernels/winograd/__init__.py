"""Convolutions by Winograd's method."""
