"""Kernels that call kernels.

A driver (of a matrix product, a convolution) is compiled once and finds in its slots the code of
the parts that vary: the strips of tiles it is built on, and the epilogue that a fused node adds.
So a network of many layers needs few drivers, and compiling an epilogue compiles nothing else.
"""

from __future__ import annotations

from dnnc.ir.dims import Dim, dim
from dnnc.kernels.abi import Integer, Kernel
from dnnc.kernels.compile import load_kernels

__all__ = ["Code"]


class Code(Integer):
    """The slot holds the address of another kernel's code.

    It is compiled, or loaded from the cache, when a program asks for the number.
    """

    __slots__ = ("kernel",)
    kernel: Kernel

    def __init__(self, kernel: Kernel) -> None:
        object.__setattr__(self, "kernel", kernel)

    def __reduce__(self) -> tuple[object, ...]:
        return Code, (self.kernel,)

    @property
    def size(self) -> Dim:
        return dim(load_kernels([self.kernel])[0])
