"""What a program consists of, as text on standard error for DNNC_DEBUG."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dnnc.kernels.abi import Kernel
from dnnc.kernels.compile import optimized_ir
from dnnc.program.locations import leaves
from dnnc.program.plan import Plan

__all__ = ["needed_kernels", "show_kernels"]


def needed_kernels(plan: Plan) -> list[Kernel]:
    """All kernels of a program once, with those that kernels call through their arguments."""
    found: dict[str, Kernel] = {}
    for item in leaves(plan.items):
        parts = [getattr(argument, "kernel", None) for argument in item.call.arguments]
        for kernel in [*parts, item.call.kernel]:
            if isinstance(kernel, Kernel):
                found.setdefault(kernel.key, kernel)
    return list(found.values())


def show_kernels(name: str, kernels: Sequence[Kernel], machine_code: bool) -> None:
    """Print each kernel: generated source; with `machine_code` also LLVM and assembly."""
    for kernel in kernels:
        print(f"# kernel {kernel.name} {kernel.key[:12]} of {name}", file=sys.stderr)
        if kernel.source:
            print(kernel.source, file=sys.stderr)
        if machine_code:
            print(*optimized_ir(kernel), sep="\n", file=sys.stderr)
