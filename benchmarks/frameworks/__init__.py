"""The frameworks, a file each, behind one interface; imported only where they run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks.cases import Mode
from benchmarks.frameworks.interface import Framework

__all__ = ["CONTENDERS", "Contender", "create", "installed"]

BOTH: tuple[Mode, ...] = ("infer", "train")
INFER: tuple[Mode, ...] = ("infer",)


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to run a network: `variant` of the framework in the file `module`.

    `packages` are the distributions that it needs; the first one's version is reported.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    modes: tuple[Mode, ...] = BOTH
    variant: str = ""
    own: bool = False
    onnx: bool = False


#: In the order in which they are timed and printed.
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("dnnc", "with_dnnc", (), variant="face", own=True),
        Contender("dnnc-bare", "with_dnnc", (), INFER, variant="bare", own=True),
        Contender("torch", "with_torch", ("torch",), variant="eager"),
        Contender("torch-compile", "with_torch", ("torch",), variant="compile"),
        Contender("onnxruntime", "with_onnxruntime", ("onnxruntime",), INFER, onnx=True),
        Contender("openvino", "with_openvino", ("openvino",), INFER, onnx=True),
        Contender("jax", "with_jax", ("jax",)),
    )
}

#: What the export of PyTorch's networks needs.
EXPORTER = ("torch", "onnx", "onnxscript")


def missing(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def installed(contender: Contender) -> str | None:
    """None where a contender can run, else what is missing."""
    lacking = missing(contender.packages)
    if contender.onnx:
        lacking += [f"{name} (for the export)" for name in missing(EXPORTER)]
    return ", ".join(lacking) or None


def version_of(contender: Contender) -> str:
    """The version of a contender's framework."""
    if contender.own:
        import dnnc

        return dnnc.__version__
    try:
        return version(contender.packages[0])
    except PackageNotFoundError:
        return "unknown"


def create(contender: Contender, threads: int) -> Framework:
    """Import a framework into this process."""
    module = importlib.import_module(f"benchmarks.frameworks.{contender.module}")
    made: Framework = module.create(contender.variant, threads)
    return made
