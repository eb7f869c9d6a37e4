"""Expressions: a tree and names in scope → numbers, functions and tensors.

What is known when compiling is computed; what is not becomes nodes of the graph. `Expressions` knows
nothing of blocks: `Elaborator` completes it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from dnnc import ops
from dnnc.diagnostics import DnnError, Span, closest
from dnnc.elaborate.session import PoisonError, Session, is_library
from dnnc.elaborate.values import (
    Axes,
    BlockValue,
    Bundle,
    ChainValue,
    Env,
    FunctionValue,
    Instance,
    Namespace,
    Partial,
    Poison,
    Ratio,
    Size,
    Tensor,
    callable_value,
    describe,
    is_number,
    plain,
    size_of,
)
from dnnc.ir.dims import dim
from dnnc.ir.graph import Value, origin
from dnnc.ir.types import DType
from dnnc.ops.base import TypeRuleError
from dnnc.syntax import tree

__all__ = ["Expressions"]

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS: dict[str, Callable[..., Value]] = {
    "+": ops.add,
    "-": ops.subtract,
    "*": ops.multiply,
    "/": ops.divide,
    "//": ops.floor_divide,
    "%": ops.modulo,
    "**": ops.power,
    "==": ops.equal,
    "!=": ops.not_equal,
    "<": ops.less,
    "<=": ops.less_equal,
    ">": ops.greater,
    ">=": ops.greater_equal,
    "and": ops.logical_and,
    "or": ops.logical_or,
}
_WIDENING = [DType.BOOL, DType.U8, DType.I8, DType.I32, DType.I64, DType.F32, DType.F64]
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}


class Expressions:
    """Evaluates expressions within a session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    # Supplied by the elaborator of blocks.
    def call_block(
        self,
        callee: BlockValue | ChainValue,
        positional: list[Any],
        named: dict[str, Any],
        span: Span,
        branches: list[ChainValue],
        name: str | None,
        env: Env,
    ) -> Any:
        raise NotImplementedError

    def run_function(self, callee: FunctionValue, env: Env, span: Span) -> Any:
        raise NotImplementedError

    # --- dispatch ----------------------------------------------------------------------------------

    def expr(self, node: tree.Expr, env: Env) -> Any:
        """The value of an expression; DnnError where it has none."""
        with self.session.at(node.span):
            return self._expr(node, env)

    def _expr(self, node: tree.Expr, env: Env) -> Any:
        match node:
            case tree.Number() | tree.String() | tree.Boolean():
                return node.value
            case tree.Name():
                return self.name(node, env)
            case tree.Group():
                return self.expr(node.value, env)
            case tree.Attribute():
                return self.attribute(self.expr(node.value, env), node)
            case tree.Index():
                return self.index(self.expr(node.value, env), self.expr(node.index, env), node)
            case tree.Unary():
                return self.unary(node, env)
            case tree.Binary():
                return self.binary_node(node, env)
            case tree.Conditional():
                return self.conditional(node, env)
            case tree.ListExpr():
                return [self.expr(item, env) for item in node.items]
            case tree.Call():
                callee = self.callee(node.callee, env)
                positional, named = self.arguments(node.arguments, env)
                return self.call(callee, positional, named, node.callee.span, env)
            case tree.Pipe():
                value = self.expr(node.value, env)
                return self.stage(node.stage, value, env)
        raise AssertionError(node)

    def stage(self, stage: tree.Stage, value: Any, env: Env) -> Any:
        """`value -> stage`."""
        with self.session.at(stage.span):
            callee = self.callee(stage.callee, env)
            positional, named = self.arguments(stage.arguments, env)
            branches = [ChainValue(chain, env) for chain in stage.branches]
            return self.call(
                callee, [value, *positional], named, stage.callee.span, env, branches, stage.name
            )

    def arguments(
        self, nodes: Sequence[tree.Argument], env: Env
    ) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for node in nodes:
            value = self.expr(node.value, env)
            if node.name is None:
                if named:
                    self.session.fail(
                        "E105", "a positional argument follows a named one", node.span,
                        help="write the arguments without names first",
                    )  # fmt: skip
                positional.append(value)
            elif node.name in named:
                self.session.fail("E106", f"`{node.name}` is given twice", node.span)
            else:
                named[node.name] = value
        return positional, named

    # --- names -------------------------------------------------------------------------------------

    def name(self, node: tree.Name, env: Env) -> Any:
        binding = env.find(node.name)
        in_library = binding is None or binding.span is None or is_library(binding.span)
        if in_library and node.name in self.session.ambient:
            # Inside a schedule, `step` is the number of the step, not the schedule of that name.
            return self.session.ambient[node.name]
        if binding is None:
            candidates = [*env.visible(), *self.session.ambient]
            near = closest(node.name, candidates)
            help = f"did you mean `{near}`?" if near else None
            if node.name in ("step", "steps"):
                help = "`step` and `steps` are known only to schedules and optimizers"
            self.session.fail("E101", f"unknown name `{node.name}`", node.span, "not found", help)
        if isinstance(binding.value, Poison):
            raise PoisonError
        return binding.value

    def callee(self, node: tree.Expr, env: Env) -> Any:
        """What is called: a tensor named `mean` does not hide the function `mean`."""
        if isinstance(node, tree.Name):
            for value in env.meanings(node.name):
                if callable_value(value):
                    return value
        return self.expr(node, env)

    def attribute(self, value: Any, node: tree.Attribute) -> Any:
        if isinstance(value, Namespace):
            members = {name: b.value for name, b in value.env.names.items()}
        elif isinstance(value, Instance):
            members = value.members
        else:
            self.session.fail(
                "E107", f"{describe(value)} has no attributes", node.span,
                help="attributes belong to layers named with `as` and to imported files",
            )  # fmt: skip
        if node.name not in members:
            near = closest(node.name, members)
            known = ", ".join(f"`{name}`" for name in sorted(members)) or "nothing"
            self.session.fail(
                "E107", f"{describe(value)} has no `{node.name}`", node.span, f"it has {known}",
                f"did you mean `{near}`?" if near else None,
            )  # fmt: skip
        return members[node.name]

    def index(self, value: Any, index: Any, node: tree.Index) -> Any:
        position = plain(index)
        if isinstance(value, Tensor) and isinstance(position, int):
            if value.rank == 0:
                self.session.fail("E108", "a scalar cannot be indexed", node.span)
            start = dim(position) if position >= 0 else value.shape[0] + position
            sliced = self.emit(ops.slice, value.value, axis=0, start=start, stop=start + 1)
            return self.tensor(
                self.emit(ops.reshape, sliced, shape=value.shape[1:]), value.axes[1:]
            )
        if not isinstance(value, list | tuple) or not isinstance(position, int):
            self.session.fail(
                "E108", f"cannot take element {describe(index)} of {describe(value)}", node.span
            )
        if not -len(value) <= position < len(value):
            self.session.fail(
                "E108", f"element {position} of a list of {len(value)}", node.span,
                f"from 0 to {len(value) - 1}" if value else "the list is empty",
            )  # fmt: skip
        return value[position]

    # --- calls -------------------------------------------------------------------------------------

    def call(
        self,
        callee: Any,
        positional: list[Any],
        named: dict[str, Any],
        span: Span,
        env: Env,
        branches: list[ChainValue] | None = None,
        name: str | None = None,
    ) -> Any:
        """Apply anything that can be called."""
        if isinstance(callee, Partial):
            first = positional[:1] if isinstance(callee.callee, BlockValue) else []
            rest = positional[len(first) :]
            positional = [*first, *callee.positional, *rest]
            named = {**callee.named, **named}
            return self.call(callee.callee, positional, named, span, env, branches, name)
        if isinstance(callee, BlockValue | ChainValue):
            return self.call_block(callee, positional, named, span, branches or [], name, env)
        if branches:
            self.session.fail(
                "E109", f"{describe(callee)} takes no blocks in braces", span,
                help="only a block can be given branches",
            )  # fmt: skip
        if name is not None:
            self.session.fail(
                "E110", f"{describe(callee)} makes no layer that could be named `{name}`", span,
                help="bind its result with `=` instead",
            )  # fmt: skip
        if isinstance(callee, FunctionValue):
            return self.call_function(callee, positional, named, span)
        if hasattr(callee, "builtin"):
            return callee.builtin(self, positional, named, span)
        self.session.fail(
            "E111", f"{describe(callee)} cannot be called", span,
            help="remove the parentheses" if is_number(callee) else None,
        )  # fmt: skip

    def call_function(
        self, callee: FunctionValue, positional: list[Any], named: dict[str, Any], span: Span
    ) -> Any:
        settings = callee.definition.settings
        bound = self.match(callee, settings, positional, named, span)
        if any(s.default is None and s.name not in bound for s in settings):
            return Partial(callee, tuple(positional), named, span)
        env = Env(callee.env)
        with self.session.frame("function", callee.name, span):
            for setting in settings:
                if setting.name in bound:
                    value = bound[setting.name]
                else:
                    assert setting.default is not None
                    value = self.expr(setting.default, env)
                env.define(setting.name, value, setting.span)
            return self.run_function(callee, env, span)

    def match(
        self,
        callee: FunctionValue | BlockValue,
        settings: Sequence[tree.Setting],
        positional: list[Any],
        named: dict[str, Any],
        span: Span,
    ) -> dict[str, Any]:
        """Arguments by the name of their setting; unknown, doubled and surplus ones are errors."""
        names = [setting.name for setting in settings]
        if len(positional) > len(names):
            takes = f"it takes {len(names)}" if names else "it takes none"
            self.session.fail(
                "E103", f"{describe(callee)} got {len(positional)} arguments", span, takes
            )
        bound = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names:
                near = closest(name, names)
                known = ", ".join(f"`{n}`" for n in names) or "none"
                self.session.fail(
                    "E102", f"{describe(callee)} has no setting `{name}`", span,
                    f"its settings: {known}", f"did you mean `{near}`?" if near else None,
                )  # fmt: skip
            if name in bound:
                self.session.fail("E106", f"`{name}` is given twice, by position and by name", span)
            bound[name] = value
        return bound

    # --- operators ---------------------------------------------------------------------------------

    def unary(self, node: tree.Unary, env: Env) -> Any:
        value = self.expr(node.operand, env)
        if node.operator == "-":
            return self.binary("-", 0, value) if not self.graphic(value) else self.negate(value)
        if isinstance(value, bool):
            return not value
        if isinstance(value, Tensor) and value.dtype is DType.BOOL:
            return self.tensor(self.emit(ops.logical_not, value.value), value.axes)
        self.session.fail("E112", f"`not` needs true or false, got {describe(value)}")

    def negate(self, value: Any) -> Any:
        if isinstance(value, Bundle):
            return Bundle(tuple(self.negate(t) for t in value.tensors))
        return self.tensor(self.emit(ops.negate, value.value), value.axes)

    def binary_node(self, node: tree.Binary, env: Env) -> Any:
        left = self.expr(node.left, env)
        if node.operator in ("and", "or") and isinstance(left, bool):
            # The right side may only make sense when the left one holds.
            if left is (node.operator == "or"):
                return left
            right = self.expr(node.right, env)
            if isinstance(right, bool):
                return right
            self.session.fail("E112", f"`{node.operator}` needs true or false", node.right.span)
        return self.binary(node.operator, left, self.expr(node.right, env))

    def graphic(self, value: Any) -> bool:
        return isinstance(value, Tensor | Bundle)

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        """`left symbol right`, on numbers, sizes, lists, tensors and bundles."""
        if symbol == "@":
            return self.matmul(left, right)
        if left is None or right is None or not (self.graphic(left) or self.graphic(right)):
            return self.static_binary(symbol, left, right)
        if isinstance(left, Bundle) or isinstance(right, Bundle):
            return self.bundle_binary(symbol, left, right)
        return self.elementwise(_OPERATORS[symbol], left, right, symbol=symbol)

    def bundle_binary(self, symbol: str, left: Any, right: Any) -> Bundle:
        count = len(left.tensors if isinstance(left, Bundle) else right.tensors)
        lefts = left.tensors if isinstance(left, Bundle) else [left] * count
        rights = right.tensors if isinstance(right, Bundle) else [right] * count
        if len(lefts) != len(rights):
            self.session.fail("E203", "bundles of different lengths are combined")
        pairs = zip(lefts, rights, strict=True)
        return Bundle(tuple(self.binary(symbol, a, b) for a, b in pairs))

    def static_binary(self, symbol: str, left: Any, right: Any) -> Any:
        left, right = plain(left), plain(right)
        if symbol in ("==", "!="):
            same = self.same(left, right)
            return same if symbol == "==" else not same
        if symbol == "+" and isinstance(left, list) and isinstance(right, list):
            return left + right
        if symbol == "+" and isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(left, Size | Ratio) or isinstance(right, Size | Ratio):
            return self.size_binary(symbol, left, right)
        if not (is_number(left) and is_number(right)) or symbol not in _ARITHMETIC:
            self.session.fail(
                "E112", f"`{symbol}` does not apply to {describe(left)} and {describe(right)}"
            )
        return self.number_binary(symbol, left, right)

    def number_binary(self, symbol: str, left: int | float, right: int | float) -> Any:
        if symbol == "**" and abs(right) > 1024 and isinstance(left, int):
            left = float(left)
        try:
            result = _ARITHMETIC[symbol](left, right)
        except ZeroDivisionError:
            self.session.fail("E113", "division by zero")
        except OverflowError:
            self.session.fail("E114", "the number is too large")
        if isinstance(result, complex):
            self.session.fail("E113", "a negative number has no such power")
        if symbol == "/" and isinstance(left, int) and isinstance(right, int) and left % right == 0:
            return left // right
        if isinstance(result, int) and abs(result) >= 2**63:
            self.session.fail("E114", f"{left} {symbol} {right} does not fit 64 bits")
        return result

    def same(self, left: Any, right: Any) -> bool:
        if isinstance(left, Size) or isinstance(right, Size):
            a, b = size_of(left), size_of(right)
            if a is None or b is None:
                return False
            if (a - b).constant is None:
                self.session.fail(
                    "E213", f"whether {a} equals {b} is not known when compiling",
                    help="give the size as a setting, or compare sizes that are numbers",
                )  # fmt: skip
            return (a - b).constant == 0
        if isinstance(left, str | int | float | bool | list) or left is None or right is None:
            return bool(type(left) in (int, float) or type(left) is type(right)) and left == right
        return left is right

    def size_binary(self, symbol: str, left: Any, right: Any) -> Any:
        axis = getattr(left, "axis", None) or getattr(right, "axis", None)
        a, b = size_of(left), size_of(right)
        if a is None or b is None:
            # A symbolic size beside a fraction is a scalar of the running program.
            return self.elementwise(_OPERATORS[symbol], left, right, symbol=symbol)
        if symbol in ("<", "<=", ">", ">="):
            return self.compare_sizes(symbol, a, b)
        if symbol in ("/", "//", "%") and b.constant == 0:
            self.session.fail("E113", "division by zero")
        match symbol:
            case "+":
                return Size(a + b, axis)
            case "-":
                return Size(a - b, axis)
            case "*":
                return Size(a * b, axis)
            case "//":
                return Size(a // b, axis)
            case "%":
                return Size(a % b, axis)
            case "/":
                whole = a // b
                return Size(whole, axis) if whole * b == a else Ratio(a, b, axis)
        return self.elementwise(_OPERATORS[symbol], left, right, symbol=symbol)

    def compare_sizes(self, symbol: str, a: Any, b: Any) -> bool:
        difference = (a - b).constant
        if difference is not None:
            return bool(_ARITHMETIC[symbol](difference, 0))
        bound = self.session.bounds.get(a.name or "")
        if symbol == "<=" and bound is not None and (b - bound).constant is not None:
            if int(b - bound) >= 0:
                return True
        # Sizes are positive: `n > 0` and `n >= 1` hold.
        if symbol == ">" and b.constant == 0 and a.name or symbol == ">=" and b.constant == 1:
            return True
        self.session.fail("E213", f"whether {a} {symbol} {b} is not known when compiling")

    def matmul(self, left: Any, right: Any) -> Tensor:
        for side in (left, right):
            if not isinstance(side, Tensor):
                self.session.fail("E112", f"`@` multiplies tensors, got {describe(side)}")
        left, right = self.promote(left, right)
        if left.rank < 2 or right.rank < 2:
            return self.vector_product(left, right)
        if right.rank == 2 and left.rank > 2:
            return self.flat_product(left, right)
        if left.rank != right.rank:
            self.session.fail(
                "E205", f"`@` needs equal ranks or a matrix on the right, got {left.type} "
                f"and {right.type}", notes=self.session.made_at(left, right),
            )  # fmt: skip
        self.check_inner(left, right)
        value = self.emit(ops.matmul, left.value, right.value)
        return self.tensor(value, (*left.axes[:-1], right.axes[-1]))

    def check_inner(self, left: Tensor, right: Tensor) -> None:
        if left.shape[-1] != right.shape[-2]:
            self.session.fail(
                "E203", f"inner sizes differ: {left.shape[-1]} and {right.shape[-2]}",
                label=f"left is {left.type}, right is {right.type}",
                notes=self.session.made_at(left, right),
            )  # fmt: skip

    def flat_product(self, left: Tensor, right: Tensor) -> Tensor:
        """`[..., m, k] @ [k, n]` as one product of matrices."""
        self.check_inner(left, right)
        rows = left.type.with_shape(left.shape[:-1]).elements
        flat = self.emit(ops.reshape, left.value, shape=(rows, left.shape[-1]))
        product = self.emit(ops.matmul, flat, right.value)
        value = self.emit(ops.reshape, product, shape=(*left.shape[:-1], right.shape[-1]))
        return self.tensor(value, (*left.axes[:-1], right.axes[-1]))

    def vector_product(self, left: Tensor, right: Tensor) -> Tensor:
        if left.rank == 0 or right.rank == 0:
            self.session.fail("E205", "`@` does not multiply scalars", help="use `*`")
        a = (
            left
            if left.rank > 1
            else self.reshaped(left, (dim(1), *left.shape), (None, *left.axes))
        )
        b = right
        if right.rank == 1:
            b = self.reshaped(right, (*right.shape, dim(1)), (*right.axes, None))
        product = self.matmul(a, b)
        shape, axes = list(product.shape), list(product.axes)
        if right.rank == 1:
            del shape[-1], axes[-1]
        if left.rank == 1:
            position = -1 if right.rank == 1 else -2
            del shape[position], axes[position]
        return self.reshaped(product, tuple(shape), tuple(axes))

    def reshaped(self, x: Tensor, shape: Sequence[Any], axes: Axes) -> Tensor:
        return self.tensor(self.emit(ops.reshape, x.value, shape=tuple(shape)), axes)

    # --- tensors -----------------------------------------------------------------------------------

    def emit(self, build: Callable[..., Any], *values: Value, **attributes: Any) -> Any:
        """Apply an operator here; a broken type rule becomes a located error."""
        try:
            with origin(self.session.origin()):
                return build(*values, **attributes)
        except TypeRuleError as error:
            raise self.session.error(error.code, error.message, label=error.label) from None

    def tensor(self, value: Value, axes: Axes) -> Tensor:
        assert len(axes) == value.type.rank, (axes, value.type)
        return Tensor(value, axes, self.session.user_span())

    def lift(self, value: Any, dtype: DType) -> Tensor:
        """A number or size as a scalar tensor."""
        value = plain(value)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Size):
            return self.tensor(self.emit(ops.size, dim=value.dim, dtype=dtype), ())
        if isinstance(value, Ratio):
            a = self.lift(Size(value.numerator), dtype)
            b = self.lift(Size(value.denominator), dtype)
            return self.tensor(self.emit(ops.divide, a.value, b.value), ())
        if isinstance(value, bool | int | float):
            return self.tensor(self.emit(ops.constant, value=value, dtype=dtype), ())
        self.session.fail("E112", f"a number or a tensor is needed, got {describe(value)}")

    def as_tensor(self, value: Any) -> Tensor:
        """Any number as a scalar of its natural element type; tensors as they are."""
        if isinstance(value, bool):
            return self.lift(value, DType.BOOL)
        whole = isinstance(plain(value), int | Size)
        return self.lift(value, DType.I64 if whole else self.session.dtype)

    def promote(self, *values: Any, true_division: bool = False) -> list[Tensor]:
        """Operands brought to one element type: tensors widen, numbers follow the tensors."""
        dtypes = [v.dtype for v in values if isinstance(v, Tensor)]
        dtype = max(dtypes, key=_WIDENING.index, default=self.session.dtype)
        fractional = any(isinstance(v, float | Ratio) for v in values) or true_division
        if fractional and not dtype.is_float:
            dtype = self.session.dtype
        if dtype is DType.BOOL and any(is_number(v) for v in values):
            dtype = DType.I64
        return [self.converted(self.lift(v, dtype), dtype) for v in values]

    def converted(self, x: Tensor, dtype: DType) -> Tensor:
        if x.dtype is dtype:
            return x
        return Tensor(self.emit(ops.cast, x.value, dtype=dtype), x.axes, x.span)

    def elementwise(
        self, build: Callable[..., Value], *values: Any, symbol: str = "", **attributes: Any
    ) -> Tensor:
        """Apply an elementwise operator after promotion."""
        tensors = self.promote(*values, true_division=symbol == "/")
        if symbol in ("and", "or"):
            for t in tensors:
                if t.dtype is not DType.BOOL:
                    self.session.fail("E202", f"`{symbol}` needs bool tensors, got {t.type}")
        elif tensors[0].dtype is DType.BOOL and symbol not in _COMPARISONS:
            tensors = [self.converted(t, DType.I64) for t in tensors]
        try:
            value = self.emit(build, *(t.value for t in tensors), **attributes)
        except DnnError as error:
            notes = self.session.made_at(*tensors)
            first = error.diagnostics[0]
            if not notes or first.notes:
                raise
            self.session.fail(
                first.code, first.message, label=first.label, help=first.help, notes=notes
            )
        return self.tensor(value, self.merged_axes(tensors, value.type.rank))

    def merged_axes(self, tensors: Sequence[Tensor], rank: int) -> Axes:
        axes: list[Any] = [None] * rank
        for t in tensors:
            for i, axis in enumerate(t.axes):
                position = rank - t.rank + i
                if axes[position] is None and t.shape[i] != 1:
                    axes[position] = axis
        for t in tensors:
            for i, axis in enumerate(t.axes):
                position = rank - t.rank + i
                axes[position] = axes[position] or axis
        return tuple(axes)

    def conditional(self, node: tree.Conditional, env: Env) -> Any:
        test = self.expr(node.test, env)
        if isinstance(test, bool):
            return self.expr(node.yes if test else node.no, env)
        if not isinstance(test, Tensor) or test.dtype is not DType.BOOL:
            self.session.fail(
                "E112", f"a condition is true or false, got {describe(test)}", node.test.span
            )
        yes, no = self.promote(self.expr(node.yes, env), self.expr(node.no, env))
        value = self.emit(ops.select, test.value, yes.value, no.value)
        return self.tensor(value, self.merged_axes([yes, no, test], value.type.rank))
