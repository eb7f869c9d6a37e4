"""Attention without a stored matrix of scores."""
