"""Loops over elements, and reductions, from formulas."""
