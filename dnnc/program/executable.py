"""An optimized graph as something to call: NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from dnnc import environment
from dnnc.ir.graph import Graph, Node, Output, Value
from dnnc.kernels.compile import load_kernels
from dnnc.kernels.driver import Header
from dnnc.kernels.load import load_lowerings
from dnnc.program.arrays import aligned, empty
from dnnc.program.binding import Binding, Step, bind
from dnnc.program.describe import describe_memory
from dnnc.program.feeds import Feed, Feeds
from dnnc.program.locations import CallItem, LoopItem, leaves
from dnnc.program.memory import address_of, round_up
from dnnc.program.plan import Plan, make_plan
from dnnc.program.precompile import from_both_ends, helped
from dnnc.program.profile import ProfileEntry
from dnnc.program.show import needed_kernels, show_kernels
from dnnc.program.slots import ARENA
from dnnc.program.team import Team, default_threads, team

__all__ = ["Executable"]

#: Programs that take less than this on one thread do not wake the team. Seconds.
_ALONE_SECONDS = 8e-6
#: What the clock can tell apart.
_LEAST_SECONDS = 5e-8


class Executable:
    """A compiled graph, or a plan of one.

    `executable(inputs)` takes an array for each input and returns those outputs that are no
    updates, as fresh arrays. Updated inputs are written in place: they must be arrays of the exact
    type, contiguous and writable. Sizes are taken from the shapes; the layout of memory is kept for
    each combination of sizes. Any number of threads gives the same bits.
    """

    def __init__(self, program: Graph | Plan, threads: int | None = None) -> None:
        load_lowerings()
        graph = program.graph if isinstance(program, Plan) else program
        self.graph = graph
        self.threads = threads or default_threads()
        with helped(graph) as start:
            self.plan = program if isinstance(program, Plan) else make_plan(program)
            kernels = from_both_ends(needed_kernels(self.plan))
            start(kernels)
            loaded = load_kernels(kernels)
        if environment.debug() >= 4:
            show_kernels(graph.name, kernels, machine_code=environment.debug() >= 5)
        self._addresses = {
            kernel.key: address for kernel, address in zip(kernels, loaded, strict=True)
        }
        self._team: Team = team(self.threads)
        returned = [s.name for s in self.plan.storages if s.kind == "output"]
        #: Outputs with their roots, which follow those of the inputs.
        self._outputs = [
            (o, 2 + len(graph.inputs) + returned.index(o.name))
            for o in graph.outputs
            if o.updates is None
        ]
        self._programs: dict[tuple[int, ...], _Program] = {}
        #: Where slots begin: the arena, inputs, outputs. All programs read it.
        self._roots = np.zeros(2 + len(graph.inputs) + len(returned), np.int64)
        # Elements of a memory view take less time than those of an array.
        self._words = self._roots.data
        self._feeds = Feeds(graph, self._words[2:])
        self._arena = aligned(0)
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the program; ValueError where the inputs do not fit the graph."""
        with self._lock:
            feed = self._feeds.take(inputs)
            program, outputs = self._prepare(feed)
            program.run()
            self._feeds.release()
            return outputs

    def hold(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Keep arrays for some of the inputs: calls from now on give the others alone.

        ValueError where they do not fit the graph.
        """
        with self._lock:
            self._feeds.hold(inputs)

    def shortest(self, inputs: Mapping[str, np.ndarray], repetitions: int) -> float:
        """Seconds of the shortest of several runs, without what Python does around them. The arrays
        of the caller stay as they are."""
        with self._lock:
            program, outputs = self._prepare(self._feeds.take(self._copied(inputs)))
            best = float("inf")
            for _ in range(repetitions):
                start = time.perf_counter()
                program.run()
                best = min(best, time.perf_counter() - start)
            self._feeds.forget()
            del outputs
        return best

    def profile(self, inputs: Mapping[str, np.ndarray], repetitions: int = 5) -> list[ProfileEntry]:
        """Time of each step. The arrays of the caller stay as they are."""
        with self._lock:
            feed = self._feeds.take(self._copied(inputs))
            program, outputs = self._prepare(feed)
            steps = program.binding.steps
            # So that steps that run by themselves find numbers, where one leaves a piece alone.
            program.run()
            # The last one runs nothing: what it takes is no step's time.
            timed = [*steps, Step(steps[-1].item, 0, 0, 0, 0)] if steps else []
            best = [float("inf")] * len(timed)
            for _ in range(max(1, repetitions)):
                for k, step in enumerate(timed):
                    start = time.perf_counter()
                    program.run(step)
                    best[k] = min(best[k], time.perf_counter() - start)
            self._feeds.forget()
            del outputs
        return [
            ProfileEntry(
                _names(step),
                step.item.node,
                max(seconds - best[-1], _LEAST_SECONDS),
                step.flops,
                step.bytes,
            )
            for step, seconds in zip(steps, best[:-1], strict=True)
            if step.stop > step.start
        ]

    def first_nonfinite(self, inputs: Mapping[str, np.ndarray]) -> tuple[Node, str] | None:
        """The first node whose result holds NaN or infinity though its operands do not.

        With the name that the text or the graph has for that result. The arrays of the caller stay
        as they are.
        """
        with self._lock:
            feed = self._feeds.take(self._copied(inputs))
            program, outputs = self._prepare(feed, whole=True)
            try:
                return self._watch(program)
            finally:
                self._feeds.forget()
                del outputs

    def describe(self, inputs: Mapping[str, np.ndarray]) -> str:
        """The memory plan for the sizes of these inputs, as text."""
        with self._lock:
            binding = self._prepare(self._feeds.take(inputs))[0].binding
            self._feeds.release()
        return describe_memory(self.plan, binding, self.threads)

    def _copied(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        updated = {output.updates for output in self.graph.outputs}
        return {k: np.array(v) if k in updated else v for k, v in inputs.items()}

    def _prepare(self, feed: Feed, whole: bool = False) -> tuple[_Program, dict[str, np.ndarray]]:
        """The program for the sizes of a feed, with addresses of all arrays set."""
        program = None if whole else self._programs.get(feed.key)
        if program is None:
            binding = bind(self.plan, self._addresses, feed.sizes, self.threads, whole)
            program = _Program(binding, self._team, self._outputs, self._roots)
            if not whole:
                self._programs[feed.key] = program
        if len(self._arena) < program.binding.arena_bytes:
            self._arena = aligned(program.binding.arena_bytes)
            self._words[ARENA] = address_of(self._arena)
        outputs = {}
        for name, shape, dtype, root in program.outputs:
            outputs[name] = array = empty(shape, dtype)
            self._words[root] = address_of(array)
        return program, outputs

    def _watch(self, program: _Program) -> tuple[Node, str] | None:
        known = {id(value): name for name, value in self._names()}
        bad: set[int] = set()
        for item in self.graph.inputs:
            if not self._finite(program, item.value):
                bad.add(id(item.value))
        for step in program.binding.steps:
            program.run(step)
            node = step.item.node
            if node is None:
                continue
            for result in node.results:
                if self._finite(program, result):
                    continue
                if not any(id(operand) in bad for operand in node.operands):
                    return node, known.get(id(result)) or result.hint or node.op.name
                bad.add(id(result))
        return None

    def _names(self) -> list[tuple[str, Value]]:
        return [(output.name, output.value) for output in self.graph.outputs]

    def _finite(self, program: _Program, value: Value) -> bool:
        if not value.type.dtype.is_float:
            return True
        try:
            location = self.plan.locate(value)
        except KeyError:
            return True
        address = program.binding.address(location, self._roots.tolist())
        count = max(0, value.type.elements.evaluate(program.binding.sizes))
        return bool(np.isfinite(_view(address, count, value.type.dtype.numpy)).all())


class _Program:
    """A binding with the memory that the driver reads: header, and slots for each thread."""

    def __init__(
        self,
        binding: Binding,
        team: Team,
        outputs: Sequence[tuple[Output, int]],
        roots: np.ndarray,
    ) -> None:
        self.binding, self.team = binding, team
        self.outputs = [
            (o.name, o.value.type.concrete(binding.sizes), o.value.type.dtype.numpy, root)
            for o, root in outputs
        ]
        stride = round_up(8 * len(binding.which))
        self.slots = aligned(stride * team.threads)
        self.header = aligned(8 * Header.WORDS).view(np.int64)
        self.alone = binding.seconds < _ALONE_SECONDS
        self._address = self.header.ctypes.data
        for word, value in (
            (Header.TABLE, binding.table.ctypes.data),
            (Header.START, 0),
            (Header.STOP, binding.stop),
            (Header.SLOTS, self.slots.ctypes.data),
            (Header.SLOTS_STRIDE, stride),
            (Header.COUNT, len(binding.which)),
            (Header.ROOTS, roots.ctypes.data),
            (Header.WHICH, binding.which.ctypes.data),
            (Header.OFFSETS, binding.offsets.ctypes.data),
            (Header.STRIDES, binding.strides.ctypes.data),
            (Header.PATCHES, binding.patches.ctypes.data),
            (Header.BARRIER, team.barrier),
        ):
            self.header[word] = value

    def run(self, step: Step | None = None) -> None:
        """Run all steps, or one."""
        if step is not None:
            self.header[Header.START], self.header[Header.STOP] = step.start, step.stop
        try:
            if self.alone:
                self.team.run_alone(self._address)
            else:
                self.team.run(self._address)
        finally:
            if step is not None:
                self.header[Header.START], self.header[Header.STOP] = 0, self.binding.stop


def _names(step: Step) -> tuple[str, ...]:
    items = leaves(step.item.items) if isinstance(step.item, LoopItem) else [step.item]
    return tuple(item.call.kernel.name for item in items if isinstance(item, CallItem))


def _view(address: int, count: int, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Elements in memory that a program owns or holds."""
    buffer = (ctypes.c_byte * (count * dtype.itemsize)).from_address(address)
    return np.ndarray((count,), dtype, memoryview(buffer))
