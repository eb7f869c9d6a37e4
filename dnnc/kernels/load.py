"""Imports every module that registers lowerings."""

from __future__ import annotations

import importlib
from functools import cache

__all__ = ["load_lowerings"]

_MODULES = (
    "fused",
    "matmul",
    "pack_columns",
    "attention",
    "attention_gradient",
    "first",
    "conv_last",
    "conv_last_weight",
    "conv_last_pack",
    "pool",
    "shape_ops",
    "gather",
)


@cache
def load_lowerings() -> None:
    """Make `dnnc.kernels.abi.lower` know every operator."""
    for module in _MODULES:
        importlib.import_module(f"dnnc.kernels.{module}")
