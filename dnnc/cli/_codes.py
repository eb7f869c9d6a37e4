"""Every error code there is: the module that raises one registers it, so all are imported."""

from __future__ import annotations

import importlib
import pkgutil

import dnnc
from dnnc.diagnostics import CODES

__all__ = ["every_code"]

#: Layers that work on programs already checked: they raise no diagnostics, and import slowly.
SILENT = ("dnnc.kernels.", "dnnc.program.")


def every_code() -> dict[str, str]:
    """Codes with their one-line meanings, in order."""
    for module in pkgutil.walk_packages(dnnc.__path__, prefix="dnnc."):
        if not module.name.startswith(SILENT) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return dict(sorted(CODES.items()))
