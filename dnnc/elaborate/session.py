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
from dnnc.elaborate.values import Env, Tensor
from dnnc.ir.dims import Dim
from dnnc.ir.graph import Origin, Value
from dnnc.ir.types import DType, TensorType

__all__ = ["Declared", "ExhaustedError", "Frame", "PoisonError", "Session", "is_library"]

#: Sources of the standard library are named `std/….dnn`: errors point past them at the user's text.
LIBRARY = "std/"

#: Calls inside calls; deeper is taken for endless recursion.
DEPTH_LIMIT = 64
#: Applications of blocks in one network.
LAYER_LIMIT = 5_000
#: Steps of evaluation (expressions, rounds of loops) that a file may take, and how many more for
#: each layer, parameter and state: what a file computes must end, and soon.
WORK_LIMIT = 200_000
OWN_WORK = 4_000
#: Names of calls in an error's stack.
STACK_LIMIT = 8


class ExhaustedError(DnnError):
    """Elaboration would not end, or not soon: nothing after it is tried."""


class PoisonError(Exception):
    """A value is missing because of an error that has been reported already."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A call that is being elaborated: what was called, from where.

    `user` is the innermost place in the user's own text that led here, `scope` its names.
    """

    kind: str
    name: str
    span: Span
    user: Span
    scope: Env | None


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
    own: dict[str, int] = field(default_factory=dict)  # elements of a layer's own parameters
    scan_depth: int = 0
    here: Span | None = None
    scope: Env | None = None
    work: int = 0
    calls: dict[tuple[str, str], set[Span]] = field(default_factory=dict)
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
        """A call; errors inside it tell of it."""
        if len(self.frames) >= DEPTH_LIMIT:
            self.exhausted(
                f"`{name}` calls itself without end", span, f"call {DEPTH_LIMIT} deep",
                "let a condition known when compiling end the recursion",
            )  # fmt: skip
        inside = is_library(span) and bool(self.frames)
        user = self.frames[-1].user if inside else span
        scope = self.frames[-1].scope if inside else self.scope
        self.frames.append(Frame(kind, name, span, user, scope))
        self.calls.setdefault((kind, name), set()).add(span)
        try:
            yield
        finally:
            self.frames.pop()

    def spend(self, steps: int) -> None:
        """Count steps of evaluation; E310 where they are more than any network needs."""
        self.work += steps
        if self.work > WORK_LIMIT + OWN_WORK * (len(self.layers) + len(self.declared)):
            self.exhausted(
                f"this takes more than {WORK_LIMIT:,} steps to elaborate", None, "given up here",
                "loops and calls are unrolled when compiling; `scan` runs along an axis of any "
                "length",
            )  # fmt: skip

    def exhausted(self, message: str, span: Span | None, label: str, help: str) -> NoReturn:
        """End the elaboration with E310."""
        raise ExhaustedError(self.error("E310", message, span, label, help).diagnostics)

    def user_span(self, span: Span | None = None) -> Span | None:
        """The innermost place in the user's own text."""
        place = span or self.here
        if self.frames and (place is None or is_library(place)):
            return self.frames[-1].user
        return place

    def user_scope(self) -> Env | None:
        """The names in scope at that place."""
        inside = self.here is not None and is_library(self.here) and self.frames
        return self.frames[-1].scope if inside else self.scope

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
        told = any(note.span is not None and is_library(note.span) for note in notes)
        if span is not None and place is not span and not told:
            trail.append(Note("raised in the standard library", span))
        trail.extend(self._stack(place))
        return DnnError(Diagnostic(code, message, place, label, (*notes, *trail), help))

    def _stack(self, place: Span | None) -> list[Note]:
        """The calls around a place, in one line; the innermost one is shown where it tells more.

        A call is shown when its definition is used in several places, or is in another file.
        """
        called = [f for f in self.frames if f.kind != "model"]
        if not called:
            return []
        names: list[tuple[str, int]] = []
        for frame in self.frames:
            shown = f"{frame.kind} `{frame.name}`"
            repeats = names.pop()[1] if names and names[-1][0] == shown else 0
            names.append((shown, repeats + 1))
        texts = [text if count == 1 else f"{text} {count} times" for text, count in names]
        if len(texts) > STACK_LIMIT:
            half = STACK_LIMIT // 2
            texts = [*texts[:half], f"{len(texts) - 2 * half} more", *texts[-half:]]
        inner = [f for f in called if not is_library(f.span) and f.span is not place]
        span = None
        if inner and place is not None:
            # Of a recursion, the call that began it.
            last = inner[-1] if len({text for text, _ in names}) == len(called) + 1 else inner[0]
            several = len(self.calls[last.kind, last.name]) > 1
            if several or last.span.source is not place.source:
                span = last.span
        return [Note(f"while elaborating {', '.join(texts)}", span)]

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

    @contextmanager
    def collecting(self, errors: Collector) -> Iterator[None]:
        """Whatever goes wrong inside ends it, and is added to `errors`."""
        try:
            yield
        except PoisonError:
            if not self.errors.diagnostics:
                # A definition is at fault, which is told where it stands.
                raise DnnError([]) from None
        except DnnError as error:
            self.errors.add(error)
        errors.add(DnnError(self.errors.diagnostics))

    def made_at(self, *tensors: Tensor) -> tuple[Note, ...]:
        """Notes that tell where tensors were made, for those in the user's text."""
        return tuple(
            Note(f"{t.type} was made here", t.span)
            for t in tensors
            if t.span is not None and not is_library(t.span) and t.span is not self.here
        )


def is_library(span: Span) -> bool:
    return span.source.name.startswith(LIBRARY)
