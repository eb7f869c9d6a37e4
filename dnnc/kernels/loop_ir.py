"""Counted loops in LLVM code. Imports llvmlite alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llvmlite import ir

from dnnc.kernels.vector_ir import I64

__all__ = ["Loop", "loop"]


@dataclass(slots=True)
class Loop:
    """A loop being written: its counter and carried values, and what they are in the next round.

    After the loop `carried` holds the last values.
    """

    index: ir.Value
    carried: list[ir.Value]
    following: list[ir.Value] = field(default_factory=list)


@contextmanager
def loop(
    b: ir.IRBuilder,
    start: ir.Value,
    stop: ir.Value,
    by: int,
    carried: Sequence[ir.Value] = (),
    at_least_once: bool = False,
) -> Iterator[Loop]:
    """A loop whose body sets `following` for what it carries.

    It may run no round, unless the caller knows that it runs `at_least_once`.
    """
    before = b.block
    body, end = b.append_basic_block("body"), b.append_basic_block("end")
    if at_least_once:
        b.branch(body)
    else:
        b.cbranch(b.icmp_signed("<", start, stop), body, end)
    b.position_at_end(body)
    made = Loop(b.phi(I64), [b.phi(value.type) for value in carried])
    yield made
    last, following = b.block, b.add(made.index, I64(by))
    b.cbranch(b.icmp_signed("<", following, stop), body, end)
    b.position_at_end(end)
    phis = [made.index, *made.carried]
    for phi, first, then in zip(phis, [start, *carried], [following, *made.following], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, last)
    if at_least_once:
        made.carried = list(made.following)
        return
    made.carried = [b.phi(value.type) for value in carried]
    for phi, first, then in zip(made.carried, carried, made.following, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, last)
