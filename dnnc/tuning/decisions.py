"""What is chosen between, and the look-up of choices.

A `Decision` registers what there is to choose between; whoever has to choose asks a `Question`. Its
case is the sizes and types that matter, and its amount how much of it there is at once, such as
the images of a batch. Amounts are measured for some numbers only: the nearest one answers. A
program that is compiled for batches of any size does not know the amount, unless what compiles it
says by `batch` what it will be called with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph
from dnnc.tuning.tables import consulted

__all__ = [
    "DECISIONS",
    "Case",
    "Decision",
    "Question",
    "answer",
    "asked",
    "batch",
    "choose",
    "decision",
    "depends_on_batch",
    "nearest",
]

Case: TypeAlias = Mapping[str, int | str]

#: A choice measured for an amount is taken for others up to so many times as much or as little.
_NEAR = 4


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice between numbered candidates, all of which compute the same.

    `candidates` are those of a case, at least one; `rule` is the one among them that is likely to
    be best. `graph` is the smallest program that shows what a candidate costs: its only symbol, if
    any, is the amount.
    """

    name: str
    candidates: Callable[[Case], Sequence[int]]
    rule: Callable[[Case], int]
    graph: Callable[[Case, int], Graph]

    def __reduce__(self) -> tuple[object, ...]:
        return _registered, (self.name,)


def _registered(name: str) -> Decision:
    return DECISIONS[name]


#: Every decision by name.
DECISIONS: dict[str, Decision] = {}


def decision(
    name: str,
    candidates: Callable[[Case], Sequence[int]],
    rule: Callable[[Case], int],
    graph: Callable[[Case, int], Graph],
) -> Decision:
    """Register a decision."""
    if name in DECISIONS:
        raise TypeError(f"there are two decisions `{name}`")
    DECISIONS[name] = Decision(name, candidates, rule, graph)
    return DECISIONS[name]


@dataclass(frozen=True, slots=True)
class Question:
    """A decision in one case, for that amount."""

    decision: Decision
    fields: tuple[tuple[str, int | str], ...]
    amount: Dim

    @property
    def case(self) -> Case:
        return dict(self.fields)

    @property
    def key(self) -> str:
        """The case as tables name it."""
        return " ".join(f"{name}={value}" for name, value in self.fields)

    @property
    def count(self) -> int | None:
        """The amount, where it is known or depends on the size of the batch alone."""
        if self.amount.constant is not None:
            return self.amount.constant
        size, symbols = _BATCH.get(), self.amount.symbols
        if size is None or len(symbols) != 1:
            return None
        return self.amount.evaluate(dict.fromkeys(symbols, size))


_BATCH: ContextVar[int | None] = ContextVar("batch", default=None)
_ASKED: ContextVar[dict[Question, None] | None] = ContextVar("asked", default=None)


@contextmanager
def batch(size: int | None) -> Iterator[None]:
    """While inside, programs are compiled to be called with batches of about that size."""
    token = _BATCH.set(size)
    try:
        yield
    finally:
        _BATCH.reset(token)


@contextmanager
def asked() -> Iterator[dict[Question, None]]:
    """The questions that are asked while inside, in their order, each once.

    Whoever listens outside hears of them afterwards.
    """
    outside = _ASKED.get()
    questions: dict[Question, None] = {}
    token = _ASKED.set(questions)
    try:
        yield questions
    finally:
        _ASKED.reset(token)
        if outside is not None:
            outside.update(questions)


def choose(question: Question) -> int:
    """The candidate to take."""
    noted = _ASKED.get()
    if noted is not None:
        noted[question] = None
    return answer(question)


def answer(question: Question) -> int:
    """The candidate to take, for those who only want to know: no one hears of it."""
    candidates = question.decision.candidates(question.case)
    for choices in _known(question):
        found = nearest(choices, question.count)
        if found is not None and found in candidates:
            return found
    return question.decision.rule(question.case)


def nearest(choices: Mapping[int, int], count: int | None) -> int | None:
    """The choice for the nearest amount; without an amount, that on which all agree. None where
    there is none."""
    if count is None:
        agreed = set(choices.values())
        return agreed.pop() if len(agreed) == 1 else None
    # The smaller of two that are as near.
    near = min(choices, key=lambda known: (_ratio(known, count), known), default=None)
    return choices[near] if near is not None and _ratio(near, count) <= _NEAR else None


def depends_on_batch(question: Question) -> bool:
    """Whether the size of the batch may decide."""
    if question.amount.constant is not None:
        return False
    known = {choice for choices in _known(question) for choice in choices.values()}
    return bool(known - {question.decision.rule(question.case)})


def _known(question: Question) -> list[Mapping[int, int]]:
    """What tables hold for a question, the first to be asked first."""
    return [table.get(question.decision.name, {}).get(question.key, {}) for table in consulted()]


def _ratio(a: int, b: int) -> float:
    """How many times as large the larger is."""
    return max(a, b, 1) / max(1, min(a, b))
