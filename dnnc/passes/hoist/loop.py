"""One loop, taken apart: what moves before it, the loop that is left, and what moves after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnnc.ir.graph import Graph, Input, Node, Output, Value, apply_all, nodes_between, origin
from dnnc.ir.types import DType
from dnnc.ops.control import Scan
from dnnc.ops.creation import Iota
from dnnc.ops.elementwise import Add
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.hoist.batching import batched, can_batch, repeated
from dnnc.passes.hoist.sums import TimeSum, terms_of_carry
from dnnc.passes.hoist.turns import FREE, Kind, Turn, is_costly
from dnnc.passes.simplify import make
from dnnc.passes.simplify.rules import fill, made_by, uniform
from dnnc.passes.trace import fired

__all__ = ["Loop"]


class Loop:
    """The rewriting of one scan. `used` tells which of its results anything needs."""

    def __init__(self, op: Scan, operands: Sequence[Value], used: Sequence[bool]) -> None:
        self.op, self.operands, self.used = op, operands, used
        self.length = operands[op.carries].shape[0]
        self.order = {node: i for i, node in enumerate(op.body.nodes)}
        self.users: dict[Value, list[Node]] = {}
        for node in op.body.nodes:
            for value in node.operands:
                self.users.setdefault(value, []).append(node)
        #: Values outside the loop of values in it: the same in every turn, or stacked.
        self.outside: dict[Value, Value] = {}
        self.turn = Turn(op, self._same_inputs())
        self.kinds = self.turn.kinds
        for item, operand in zip(op.body.inputs, operands, strict=True):
            if self.kinds[item.value] is not Kind.CARRIED:
                self.outside.setdefault(item.value, operand)
        self.sums = TimeSum(self.kinds, self.length, self.stack, self.same)
        #: Terms of the carries that are summed after the loop, by index.
        self.terms: dict[int, list[Value]] = {}
        #: Values that turns before decide and that every turn computes to go on.
        self.core: set[Value] = set()
        #: Other values that are computed after the loop.
        self.later: set[Value] = set()
        #: What the loop emits, in order.
        self.emitted: dict[Value, None] = {}

    def rewritten(self) -> list[Value]:
        """Values for all results of the scan."""
        count = self.op.carries
        outputs = [output.value for output in self.op.body.outputs]
        stacks = [v for v, used in zip(outputs[count:], self.used[count:], strict=True) if used]
        self._find_terms()
        finals = self._plan(stacks)
        last = self._run(finals)
        results: list[Value] = []
        for i, value in enumerate(outputs):
            if i in self.terms:
                results.append(self._total(i))
            elif i < count:
                results.append(last.get(i, self.operands[i]))
            elif self.used[i]:
                results.append(self.stack(value))
            else:
                results.append(repeated(fill(0, value.type), self.length))
        return results

    def stack(self, value: Value) -> Value:
        """A value in all turns, with time as the first axis."""
        self._compute([value])
        outer = self.outside[value]
        return repeated(outer, self.length) if self.kinds[value] is Kind.SAME else outer

    def same(self, value: Value) -> Value:
        """A value that is the same in every turn, outside the loop."""
        self._compute([value])
        return self.outside[value]

    def _same_inputs(self) -> set[Value]:
        """Sequences whose elements are all the same."""
        found: set[Value] = set()
        first, last = self.op.carries, self.op.carries + self.op.sequences
        for i in range(first, last):
            value, operand = self.op.body.inputs[i].value, self.operands[i]
            repeat = made_by(operand, Broadcast)
            if repeat is None:
                continue
            source = repeat[1][0]
            if source.type.rank == operand.type.rank:
                if source.shape[0] != 1:
                    continue
                source = make(Reshape(source.shape[1:]), source)
            self.outside[value] = make(Broadcast(value.shape), source)
            found.add(value)
        return found

    def _find_terms(self) -> None:
        for i in range(self.op.carries):
            if not self.used[i] or self.kinds[self.turn.carried[i]] is Kind.SAME:
                continue
            terms = terms_of_carry(self.op, i, self.users)
            if terms is not None and all(map(self.sums.can, terms)):
                self.terms[i] = terms
                fired("sum a carry after the loop")

    def _plan(self, stacks: list[Value]) -> list[int]:
        """Decide what is computed where; the indices of the carries that remain."""
        leaves = [self.sums.leaves(term) for terms in self.terms.values() for term in terms]
        large = [value for part in leaves for value in part[0]]
        small = [value for part in leaves for value in part[1]]
        kept = self._live_carries([*stacks, *large, *small])
        self.core = self._needed(self.turn.following[i] for i in kept)
        for node in self.op.body.nodes:
            if self._moves_after(node):
                self.later.add(node.results[0])
        for value in (*stacks, *large):
            self._plan_stack(value)
        for value in small:
            assert value.node is not None
            if not self._is_available(value.node.operands[0]):
                self._plan_stack(value)
        return kept

    def _live_carries(self, wanted: Iterable[Value]) -> list[int]:
        position = {value: i for i, value in enumerate(self.turn.carried)}
        live = {
            i
            for i in range(self.op.carries)
            if self.used[i] and i not in self.terms and self._changes(i)
        }
        seen: set[Value] = set()
        waiting = [*wanted, *(self.turn.following[i] for i in live)]
        while waiting:
            value = waiting.pop()
            if value in seen or self.kinds[value] is not Kind.CARRIED:
                continue
            seen.add(value)
            if value.node is not None:
                waiting.extend(value.node.operands)
            elif position[value] not in self.terms:
                live.add(position[value])
                waiting.append(self.turn.following[position[value]])
        return sorted(live)

    def _changes(self, index: int) -> bool:
        return self.kinds[self.turn.carried[index]] is Kind.CARRIED

    def _needed(self, values: Iterable[Value]) -> set[Value]:
        """Carried values that others are computed from, themselves included."""
        found: set[Value] = set()
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if value in found or self.kinds[value] is not Kind.CARRIED:
                continue
            found.add(value)
            if value.node is not None:
                waiting.extend(value.node.operands)
        return found

    def _moves_after(self, node: Node) -> bool:
        value = node.results[0]
        if self.kinds[value] is not Kind.CARRIED or value in self.core or len(node.results) > 1:
            return False
        if not node.op.pure or not can_batch(node, self.turn.flags(node)):
            return False
        follows = any(operand in self.later for operand in node.operands)
        return is_costly(node) or isinstance(node.op, FREE) or follows

    def _plan_stack(self, value: Value) -> None:
        """Emit what the value needs in all turns."""
        waiting = [value]
        while waiting:
            current = waiting.pop()
            if self.kinds[current] is not Kind.CARRIED or current in self.emitted:
                continue
            if current in self.later and current.node is not None:
                waiting.extend(reversed(current.node.operands))
            else:
                self.emitted[current] = None

    def _is_available(self, value: Value) -> bool:
        """Whether a value is known in all turns without emitting anything more."""
        if self.kinds[value] is not Kind.CARRIED or value in self.emitted:
            return True
        node = value.node
        return (
            value in self.later and node is not None and all(map(self._is_available, node.operands))
        )

    def _total(self, index: int) -> Value:
        total = self.operands[index]
        for term in self.terms[index]:
            total = make(Add(), total, self.sums.total(term, self._is_available))
        return total

    def _compute(self, values: Iterable[Value]) -> None:
        """Compute values of the body outside the loop."""
        needed = nodes_between(values, self.outside.__contains__)
        for node in sorted(needed, key=self.order.__getitem__):
            operands = [self.outside[v] for v in node.operands]
            with origin(node.origin):
                if self.kinds[node.results[0]] is not Kind.SAME:
                    flags = self.turn.flags(node)
                    self.outside[node.results[0]] = batched(node, operands, flags, self.length)
                elif len(node.results) == 1:
                    self.outside[node.results[0]] = make(node.op, *operands)
                else:
                    results = apply_all(node.op, *operands)
                    self.outside.update(zip(node.results, results, strict=True))

    def _run(self, kept: list[int]) -> dict[int, Value]:
        """Make the loop that is left; the last values of its carries by index."""
        if not kept and not self.emitted:
            return {}
        body = _Body(self, [*(self.turn.following[i] for i in kept), *self.emitted])
        carries = [self.op.body.inputs[i] for i in kept]
        sequences, stacked = body.sequences()
        captures, constant = body.captures()
        names = [self.op.body.outputs[i].name for i in kept]
        names += _emit_names(self.op, self.emitted, names)
        graph = Graph(
            self.op.body.name,
            (*carries, *sequences, *captures),
            tuple(Output(n, v) for n, v in zip(names, body.results, strict=True)),
            self.op.body.bounds,
        )
        op = Scan(graph, len(kept), len(sequences), self.op.reverse)
        init = [self.operands[i] for i in kept]
        results = apply_all(op, *init, *stacked, *constant)
        self.outside.update(zip(self.emitted, results[len(kept) :], strict=True))
        return dict(zip(kept, results, strict=False))


def _emit_names(op: Scan, emitted: Iterable[Value], taken: Iterable[str]) -> list[str]:
    """Names of what a loop emits: those it had, and fresh ones."""
    known = {o.value: o.name for o in reversed(op.body.outputs[op.carries :])}
    used = {*taken, *known.values()}
    names: list[str] = []
    for value in emitted:
        name, number = known.get(value, ""), 0
        while not name or name in names:
            candidate = f"emit_{number}"
            name, number = ("" if candidate in used else candidate), number + 1
        used.add(name)
        names.append(name)
    return names


class _Body:
    """The body of the loop that is left: what computes `roots`, from fewer or other inputs."""

    def __init__(self, loop: Loop, roots: list[Value]) -> None:
        self.loop = loop
        self._sequences: dict[Value, Value] = {}
        self._captures: dict[Value, Value] = {}
        self._values: dict[Value, Value] = {}
        self._taken: set[str] = set()
        inner: set[Node] = set()
        waiting = list(roots)
        seen: set[Value] = set()
        outer: list[Value] = []
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            if self._comes_from_outside(value):
                outer.append(value)
            elif value.node is not None and value.node not in inner:
                inner.add(value.node)
                waiting.extend(value.node.operands)
        position = {item.value: i for i, item in enumerate(loop.op.body.inputs)}
        outer.sort(key=lambda v: loop.order.get(v.node, -1) if v.node else position[v] - 1_000_000)
        loop._compute(outer)
        for value in outer:
            self._values[value] = self._input(value)
        for node in sorted(inner, key=loop.order.__getitem__):
            self._clone(node)
        self.results = [self._values.get(value, value) for value in roots]

    def _comes_from_outside(self, value: Value) -> bool:
        kind = self.loop.kinds[value]
        if kind is Kind.CARRIED:
            return False
        if value.node is None:
            return True
        if kind is Kind.STACKED:
            return value in self.loop.turn.worthwhile
        return not isinstance(value.node.op, FREE)

    def _input(self, value: Value) -> Value:
        """The value inside of one outside: an input, or a constant."""
        outer = self.loop.outside[value]
        number = uniform(outer)
        if number is not None:
            return fill(number, value.type)
        table = self._captures if self.loop.kinds[value] is Kind.SAME else self._sequences
        if outer not in table:
            fresh = value.node is not None or value in self.loop.turn.carried
            table[outer] = Value(value.type, hint=value.hint) if fresh else value
        return table[outer]

    def _clone(self, node: Node) -> None:
        operands = tuple(self._values.get(v, v) for v in node.operands)
        with origin(node.origin):
            if operands == node.operands:
                return
            if len(node.results) == 1:
                self._values[node.results[0]] = make(node.op, *operands)
            else:
                results = apply_all(node.op, *operands)
                self._values.update(zip(node.results, results, strict=True))

    def sequences(self) -> tuple[list[Input], list[Value]]:
        """Inputs that are sequences, at least one, and their operands."""
        if not self._sequences:
            loop = self.loop
            first = loop.op.carries
            value, outer = loop.op.body.inputs[first].value, loop.operands[first]
            if loop.kinds[value] is Kind.SAME:
                value = Value(value.type.with_shape(()).with_dtype(DType.I64))
                outer = make(Iota((loop.length,), 0, DType.I64))
            self._sequences[outer] = value
        return self._named(self._sequences)

    def captures(self) -> tuple[list[Input], list[Value]]:
        """Inputs that are the same in every turn, and their operands."""
        return self._named(self._captures)

    def _named(self, table: dict[Value, Value]) -> tuple[list[Input], list[Value]]:
        known = {item.value: item.name for item in self.loop.op.body.inputs}
        taken = self._taken
        taken.update(known.values())
        inputs: list[Input] = []
        for value in table.values():
            name, number = known.get(value, ""), 0
            while not name or (value not in known and name in taken):
                name, number = f"before_{number}", number + 1
            taken.add(name)
            inputs.append(Input(name, value))
        return inputs, list(table)
