"""One program for batches of any size, or several where measured choices differ with the size.

What a call computes must depend on its arguments alone, to the last bit, and not on those of the
call that happened to be the first: so each call gets the choices for its own number of examples.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from dnnc.tuning.decisions import Question, asked, batch, choose, depends_on_batch

__all__ = ["Variants", "examples"]

Compiled = TypeVar("Compiled")


class Variants(Generic[Compiled]):
    """What `make` compiles: once for all batches, or once for each set of choices.

    `only` is the one thing for all batches as soon as it is known that there is one alone.
    """

    def __init__(self, make: Callable[[], Compiled]) -> None:
        self._make = make
        self.only: Compiled | None = None
        self._questions: list[Question] = []
        self._by_choices: dict[tuple[int, ...], Compiled] = {}
        self._by_size: dict[int | None, Compiled] = {}
        self._lock = threading.Lock()

    def find(self, size: int | None) -> Compiled:
        """What to call with so many examples; without a size, with any."""
        found = self.only or self._by_size.get(size)
        if found is not None:
            return found
        with self._lock, batch(size):
            return self._found(size)

    def _found(self, size: int | None) -> Compiled:
        if not self._by_choices:
            with asked() as questions:
                found = self._make()
            self._questions = [item for item in questions if depends_on_batch(item)]
            self._by_choices[self._choices()] = found
            self.only = None if self._questions else found
        choices = self._choices()
        if choices not in self._by_choices:
            self._by_choices[choices] = self._make()
        self._by_size[size] = self._by_choices[choices]
        return self._by_size[size]

    def _choices(self) -> tuple[int, ...]:
        return tuple(map(choose, self._questions))


def examples(given: Mapping[str, Any], name: str) -> int | None:
    """The number of examples in the array of that name; None where there is no such array."""
    shape = getattr(given.get(name), "shape", None)
    if shape is None and isinstance(given.get(name), list | tuple):
        return len(given[name])
    return int(shape[0]) if shape else None
