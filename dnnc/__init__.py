"""dnnc: a compiler for neural networks.

import dnnc
program = dnnc.load("digits.dnn")
results = program.run()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dnnc.diagnostics import Diagnostic, DnnError

if TYPE_CHECKING:
    from dnnc.model import Job, Model, Program, Trainer, compile_graph, load, parse

__version__ = "0.1.0"

__all__ = [
    "Diagnostic",
    "DnnError",
    "Job",
    "Model",
    "Program",
    "Trainer",
    "__version__",
    "compile_graph",
    "load",
    "parse",
]


def __getattr__(name: str) -> Any:
    # The compiler is imported when it is first asked for: `import dnnc` takes milliseconds.
    if name in __all__:
        from dnnc import model

        return getattr(model, name)
    raise AttributeError(f"module 'dnnc' has no attribute {name!r}")
