"""The state of one elaboration: what is declared, where we are, how errors point at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from zlib import crc32

from dnnc.diagnostics import Collector, Diagnostic, DnnError, Note, Span
from dnnc.elaborate import codes as codes  # registers the codes of this layer
from dnnc.elaborate.plan import Layer, Variable
from dnnc.elaborate.values import Tensor
from dnnc.ir.dims import Dim
from dnnc.ir.graph import Origin, Value
from dnnc.ir.types import DType, TensorType

__all__ = ["Declared", "Frame", "PoisonError", "Session", "is_library"]

#: Sources of the standard library are named `std/….dnn`: errors point past them at the user's text.
LIBRARY = "std/"

#: Blocks inside blocks; deeper is taken for endless recursion.
DEPTH_LIMIT = 64
#: Applications of blocks in one network.
LAYER_LIMIT = 20_000


class PoisonError(Exception):
    """A value is missing because of an error that has been reported already."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A call that is being elaborated: what was called, from where."""

    kind: str
    name: str
    span: Span


@dataclass(slots=True, eq=False)
class Declared:
    """A parameter or state: its place in the graph, its first and (for states) its next value."""

    variable: Variable
    value: Value
    initial: Value
    role: str
    next: Value | None = None


@dataclass(eq=False)
class Session:
    """One elaboration, for training or for prediction.

    `ambient` holds names that are known without being passed: `training`, and `step` and `steps`
    where a schedule or an optimizer may ask for them. `sizes` fixes symbols of the model's inputs.
    """

    training: bool
    dtype: DType = DType.F32
    sizes: Mapping[str, int] = field(default_factory=dict)
    ambient: dict[str, Any] = field(default_factory=dict)
    errors: Collector = field(default_factory=Collector)
    declared: dict[str, Declared] = field(default_factory=dict)
    bounds: dict[str, Dim] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    taken: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)
    scan_depth: int = 0
    here: Span | None = None
    places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scalar = TensorType(DType.I64)
        self.seed = Value(scalar, hint="seed")
        self.step = Value(scalar, hint="step")
        self.steps = Value(scalar, hint="steps")

    # --- names of layers --------------------------------------------------------------------------

    def instance_name(self, block: str, name: str | None) -> str:
        """A name not yet taken beside its siblings: `conv_1`, `conv_2`; `stem`, then `stem_2`."""
        taken = self.taken.setdefault(tuple(self.path), {})
        base = name or block
        while True:
            count = taken[base] = taken.get(base, 0) + 1
            candidate = base if name and count == 1 else f"{base}_{count}"
            if candidate == base or candidate not in taken:
                if candidate != base:
                    taken[candidate] = 1
                return candidate

    def dotted(self, name: str) -> str:
        return ".".join((*self.path, name))

    def place(self) -> int:
        """A number for a source of randomness that follows from its path alone."""
        path = ".".join(self.path)
        count = self.places[path] = self.places.get(path, 0) + 1
        return crc32(f"{path}#{count}".encode())

    # --- places -----------------------------------------------------------------------------------

    @contextmanager
    def at(self, span: Span) -> Iterator[None]:
        before = self.here
        self.here = span
        try:
            yield
        finally:
            self.here = before

    @contextmanager
    def frame(self, kind: str, name: str, span: Span) -> Iterator[None]:
        if len(self.frames) >= DEPTH_LIMIT:
            self.fail(
                "E310", f"`{name}` calls itself without end", span, f"call {DEPTH_LIMIT} deep"
            )
        self.frames.append(Frame(kind, name, span))
        try:
            yield
        finally:
            self.frames.pop()

    def user_span(self, span: Span | None = None) -> Span | None:
        """The innermost place in the user's own text."""
        for candidate in (span or self.here, *(f.span for f in reversed(self.frames))):
            if candidate is not None and not is_library(candidate):
                return candidate
        return span or self.here

    def origin(self) -> Origin:
        return Origin(self.user_span(), ".".join(self.path))

    def error(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        label: str = "",
        help: str | None = None,
        notes: tuple[Note, ...] = (),
    ) -> DnnError:
        """A located error that tells the stack of calls around it."""
        span = span or self.here
        place = self.user_span(span)
        trail: list[Note] = []
        if span is not None and place is not span:
            trail.append(Note("raised in the standard library", span))
        for frame in reversed(self.frames):
            if frame.span is place:
                trail.append(Note(f"while elaborating {frame.kind} `{frame.name}`"))
            elif not is_library(frame.span):
                trail.append(Note(f"while elaborating {frame.kind} `{frame.name}`", frame.span))
        return DnnError(Diagnostic(code, message, place, label, (*notes, *trail), help))

    def fail(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        label: str = "",
        help: str | None = None,
        notes: tuple[Note, ...] = (),
    ) -> NoReturn:
        raise self.error(code, message, span, label, help, notes)

    def made_at(self, *tensors: Tensor) -> tuple[Note, ...]:
        """Notes that tell where tensors were made, for those in the user's text."""
        return tuple(
            Note(f"{t.type} was made here", t.span)
            for t in tensors
            if t.span is not None and not is_library(t.span) and t.span is not self.here
        )


def is_library(span: Span) -> bool:
    return span.source.name.startswith(LIBRARY)
