"""Imports every module that registers lowerings."""

from __future__ import annotations

import importlib
from functools import cache

__all__ = ["load_lowerings"]

_MODULES = (
    "fused.lower",
    "fused.sweep",
    "product.matmul",
    "product.pack_columns",
    "attention.forward",
    "attention.gradient",
    "convolution.first",
    "convolution.conv_last",
    "convolution.weight",
    "convolution.pack",
    "pooling.pool",
    "movement.shape_ops",
    "movement.gather",
)


@cache
def load_lowerings() -> None:
    """Make `dnnc.kernels.abi.lower` know every operator."""
    for module in _MODULES:
        importlib.import_module(f"dnnc.kernels.{module}")
