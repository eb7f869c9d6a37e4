"""A small table of examples for each operator, which the generic tests walk.

An example is an operator and the types of its operands. Every operand type is written with "T" for
the element type, which runs through all those that the operator accepts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value, apply_all
from dnnc.ir.types import DType, TensorType
from dnnc.ops import Operator
from dnnc.ops.base import ANY, FLOATS, NUMBERS

Array = np.ndarray


@dataclass(frozen=True)
class Example:
    """`make` gives the operator for an element type; `operands` are texts such as "T[2, 3]".

    `low` and `high` bound the values; `smooth` operators have second derivatives at them.
    """

    make: Callable[[DType], Operator]
    operands: tuple[str, ...]
    dtypes: frozenset[DType] = FLOATS
    low: float = -2.0
    high: float = 2.0
    smooth: bool = True

    def types(self, dtype: DType) -> list[TensorType]:
        """The operand types for an element type."""
        return [_type(text.replace("T", str(dtype))) for text in self.operands]

    def arrays(self, dtype: DType) -> list[Array]:
        """Operand values, the same each time."""
        name = f"{self.make(dtype).name} {dtype} {self.operands}"
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        return [self._array(rng, type) for type in self.types(dtype)]

    def _array(self, rng: np.random.Generator, type: TensorType) -> Array:
        shape = type.concrete({})
        if type.dtype is DType.BOOL:
            return np.asarray(rng.integers(0, 2, shape), bool)
        if type.dtype.is_float:
            # Far apart, so that no finite difference crosses a tie.
            steps = rng.permutation(int(np.prod(shape))).reshape(shape)
            jitter = rng.uniform(0.2, 0.8, shape)
            span = self.high - self.low
            values = self.low + span * (steps + jitter) / max(1, steps.size)
            return np.asarray(values, type.dtype.numpy)
        # Small enough to index the tables of the examples.
        return np.asarray(rng.integers(0 if self.low < 1 else 1, 3, shape), type.dtype.numpy)


def graph_of(example: Example, dtype: DType) -> Graph:
    """The operator as a program of its own, from x0, x1, ... to y0, y1, ..."""
    values = [Value(type) for type in example.types(dtype)]
    results = apply_all(example.make(dtype), *values)
    return Graph(
        "f",
        tuple(Input(f"x{i}", value, "data") for i, value in enumerate(values)),
        tuple(Output(f"y{i}", result) for i, result in enumerate(results)),
    )


def _type(text: str) -> TensorType:
    name, shape = text.removesuffix("]").split("[")
    return TensorType.make(DType(name), [int(s) for s in shape.split(",") if s.strip()])


def fixed(op: Operator) -> Callable[[DType], Operator]:
    """The same operator for all element types."""
    return lambda _: op


def unary(cls: type[Operator], **options: Any) -> list[Example]:
    shapes = ("T[2, 3]", "T[1]", "T[]", "T[2, 1, 3]")
    dtypes = options.pop("dtypes", cls.accepts)
    return [Example(fixed(cls()), (shape,), dtypes, **options) for shape in shapes]


def binary(cls: type[Operator], **options: Any) -> list[Example]:
    shapes = [
        ("T[2, 3]", "T[2, 3]"),
        ("T[2, 3]", "T[3]"),
        ("T[]", "T[2]"),
        ("T[2, 1]", "T[1, 3]"),
        ("T[1]", "T[2, 1]"),
    ]
    dtypes = options.pop("dtypes", cls.accepts)
    return [Example(fixed(cls()), pair, dtypes, **options) for pair in shapes]


def sizes(*values: int) -> Any:
    return tuple(dim(v) for v in values)


def reductions(cls: type[Operator], smooth: bool) -> list[Example]:
    cases = [
        ((1,), False, "T[2, 3]"),
        ((0,), True, "T[2, 3]"),
        ((0, 2), False, "T[2, 3, 2]"),
        ((0, 1), False, "T[1, 3]"),
        ((0,), False, "T[4]"),
    ]
    return [
        Example(fixed(cls(axes, keep)), (x,), NUMBERS, smooth=smooth) for axes, keep, x in cases
    ]


def matrices() -> list[Example]:
    cases = [
        (False, False, "T[2, 3]", "T[3, 4]"),
        (True, False, "T[3, 2]", "T[3, 4]"),
        (False, True, "T[2, 3]", "T[4, 3]"),
        (True, True, "T[2, 3, 2]", "T[2, 4, 3]"),
        (False, False, "T[1, 1]", "T[1, 1]"),
    ]
    return [Example(fixed(ops.MatMul(ta, tb)), (a, b), NUMBERS) for ta, tb, a, b in cases]


def packed_columns() -> list[Example]:
    return [
        Example(fixed(ops.PackColumns()), ("T[3, 20]",)),
        Example(fixed(ops.PackColumns(transpose=True)), ("T[40, 3]",)),
    ]


def packed_products() -> list[Example]:
    cases = [
        (20, "T[2, 3]", "T[6, 16]", DType.F32),
        (40, "T[1, 5]", "T[15, 16]", DType.F32),
        (12, "T[2, 5]", "T[10, 8]", DType.F64),
    ]
    return [
        Example(fixed(ops.PackedMatMul(dim(n))), (a, b), frozenset({dtype}))
        for n, a, b, dtype in cases
    ]


#: Attributes, then the shapes of x, w and y.
CONVOLUTIONS: list[tuple[dict[str, Any], str, str, str]] = [
    ({}, "T[2, 2, 4, 3]", "T[3, 2, 2, 2]", "T[2, 3, 3, 2]"),
    ({"strides": sizes(2, 1), "pads": sizes(0, 1, 1, 1)},
     "T[1, 2, 4, 4]", "T[2, 2, 3, 3]", "T[1, 2, 2, 4]"),
    ({"groups": 2, "dilations": sizes(2, 1)}, "T[1, 4, 5, 3]", "T[4, 2, 2, 2]", "T[1, 4, 3, 2]"),
    ({"groups": 3, "strides": sizes(2, 2)}, "T[1, 3, 4, 5]", "T[3, 1, 1, 2]", "T[1, 3, 2, 2]"),
    ({}, "T[1, 1, 1, 1]", "T[1, 1, 1, 1]", "T[1, 1, 1, 1]"),
    ({"pads": sizes(0, 0, -1, 0)}, "T[1, 1, 4, 3]", "T[1, 1, 2, 2]", "T[1, 1, 2, 2]"),
]  # fmt: skip

#: Attributes, then the shapes of x and y.
POOLS: list[tuple[dict[str, Any], str, str]] = [
    ({"window": sizes(2, 2), "strides": sizes(2, 2)}, "T[1, 2, 4, 5]", "T[1, 2, 2, 2]"),
    ({"window": sizes(3, 2), "strides": sizes(1, 2), "pads": sizes(1, 0, 1, 1)},
     "T[2, 1, 3, 3]", "T[2, 1, 3, 2]"),
    ({"window": sizes(2, 3), "strides": sizes(2, 1), "channels_last": True},
     "T[1, 4, 5, 2]", "T[1, 2, 3, 2]"),
    ({"window": sizes(1, 1), "strides": sizes(1, 1)}, "T[1, 1, 1, 1]", "T[1, 1, 1, 1]"),
]  # fmt: skip
#: The same with channels last.
LAST_POOLS: list[tuple[dict[str, Any], str, str]] = [
    ({"window": sizes(2, 3), "strides": sizes(2, 1)}, "T[1, 4, 5, 2]", "T[1, 2, 3, 2]"),
    ({"window": sizes(3, 2), "strides": sizes(1, 2), "pads": sizes(1, 0, 1, 1)},
     "T[2, 3, 3, 1]", "T[2, 3, 2, 1]"),
]  # fmt: skip


def shape_of(text: str) -> Any:
    return _type(text.replace("T", "f64")).shape


def recurrent(dtype: DType, reverse: bool = False) -> Operator:
    """h' = tanh(x * w + h), emitting h' * h; sequences x; captures w."""
    h, x, w = (Value(TensorType.make(dtype, shape)) for shape in ([2], [2], []))
    after = ops.tanh(ops.add(ops.multiply(x, w), h))
    body = Graph(
        "turn",
        (Input("h", h), Input("x", x), Input("w", w)),
        (Output("h", after), Output("y", ops.multiply(after, h))),
    )
    return ops.Scan(body, 1, 1, reverse)


def mapped(dtype: DType) -> Operator:
    """A loop without carries: x * y for two sequences."""
    x, y = Value(TensorType(dtype)), Value(TensorType(dtype))
    body = Graph("turn", (Input("x", x), Input("y", y)), (Output("z", ops.multiply(x, y)),))
    return ops.Scan(body, 0, 2)


def fused(dtype: DType) -> Operator:
    x, y = Value(TensorType.make(dtype, [2, 3])), Value(TensorType.make(dtype, [3]))
    total = ops.reduce_sum(ops.multiply(x, y), 1, keep=True)
    body = Graph("group", (Input("x", x), Input("y", y)), (Output("z", total),))
    return ops.Fused(body, sizes(2, 3), (1,))


def sweep(dtype: DType) -> Operator:
    """x + y and (x + y) * rate, for groups of x and y."""
    rate, x, y = (Value(TensorType(dtype)) for _ in range(3))
    total = ops.add(x, y)
    outputs = (Output("a", total), Output("b", ops.multiply(total, rate)))
    inputs = (Input("rate", rate), Input("x", x), Input("y", y))
    return ops.Sweep(Graph("element", inputs, outputs), 1)


#: Attributes, then the shapes of q, k, v and of a mask.
ATTENTIONS: list[tuple[bool, float, tuple[str, ...]]] = [
    (False, 0.5, ("T[2, 3, 2, 4]", "T[2, 5, 2, 4]", "T[2, 5, 2, 3]")),
    (True, 1.5, ("T[1, 4, 2, 2]", "T[1, 3, 2, 2]", "T[1, 3, 2, 2]")),
    (True, 1.0, ("T[1, 3, 1, 1]", "T[1, 3, 1, 1]", "T[1, 3, 1, 2]", "bool[1, 1, 1, 3]")),
    (False, -0.7, ("T[2, 2, 2, 3]", "T[2, 3, 2, 3]", "T[2, 3, 2, 1]", "bool[2, 1, 2, 3]")),
]


def attention_gradient(causal: bool, scale: float, shapes: tuple[str, ...]) -> Example:
    q, _, v, *mask = shapes
    row = q.rpartition(",")[0]
    result = f"{row},{v.rpartition(',')[2]}"
    operands = (*shapes[:3], result, f"{row}]", result, *mask)
    return Example(fixed(ops.AttentionGradient(causal, scale)), operands, low=-1.0, high=1.0)


EXAMPLES: dict[str, list[Example]] = {
    "negate": unary(ops.Negate),
    "absolute": unary(ops.Absolute),
    "sign": unary(ops.Sign),
    "exp": unary(ops.Exp),
    "log": unary(ops.Log, low=0.5, high=3.0),
    "log1p": unary(ops.Log1p, low=-0.5, high=3.0),
    "sqrt": unary(ops.Sqrt, low=0.5, high=3.0),
    "sin": unary(ops.Sin),
    "cos": unary(ops.Cos),
    "tanh": unary(ops.Tanh),
    "erf": unary(ops.Erf),
    "sigmoid": unary(ops.Sigmoid),
    "floor": unary(ops.Floor),
    "ceil": unary(ops.Ceil),
    "round": unary(ops.Round),
    "is_finite": unary(ops.IsFinite),
    "logical_not": unary(ops.LogicalNot),
    "cast": [
        *(Example(fixed(ops.Cast(to)), ("T[2, 3]",), ANY) for to in (*FLOATS, DType.I32)),
        Example(fixed(ops.Cast(DType.BOOL)), ("T[]",), ANY),
    ],
    "stop_gradient": unary(ops.StopGradient),
    "add": binary(ops.Add),
    "subtract": binary(ops.Subtract),
    "multiply": binary(ops.Multiply),
    "divide": binary(ops.Divide, low=0.5, high=2.0),
    "power": binary(ops.Power, low=0.5, high=2.0),
    "maximum": binary(ops.Maximum),
    "minimum": binary(ops.Minimum),
    "floor_divide": binary(ops.FloorDivide, low=1.1, high=3.0),
    "modulo": binary(ops.Modulo, low=1.1, high=3.0),
    "logical_and": binary(ops.LogicalAnd),
    "logical_or": binary(ops.LogicalOr),
    "equal": binary(ops.Equal),
    "not_equal": binary(ops.NotEqual),
    "less": binary(ops.Less),
    "less_equal": binary(ops.LessEqual),
    "greater": binary(ops.Greater),
    "greater_equal": binary(ops.GreaterEqual),
    "select": [
        Example(fixed(ops.Select()), operands, ANY)
        for operands in [
            ("bool[2, 3]", "T[2, 3]", "T[2, 3]"),
            ("bool[3]", "T[2, 1]", "T[]"),
            ("bool[]", "T[1]", "T[2, 1]"),
        ]
    ],
    "constant": [
        Example(lambda t: ops.Constant(t, (), (1,)), (), ANY),
        Example(lambda t: ops.Constant(t, (2, 1), (0, 1)), (), ANY),
        Example(fixed(ops.Constant(DType.F32, (4,), (0.1, -1e-7, float("inf"), -0.0))), ()),
        Example(fixed(ops.Constant(DType.F64, (2,), (0.1, float("-inf")))), ()),
    ],
    "iota": [
        Example(lambda t: ops.Iota(sizes(3), 0, t), (), NUMBERS),
        Example(lambda t: ops.Iota(sizes(2, 1, 3), 2, t), (), NUMBERS),
    ],
    "size": [Example(lambda t: ops.Size(dim(7), t), (), NUMBERS)],
    "random_uniform": [
        Example(lambda t: ops.RandomUniform(sizes(3, 2), 5, t), ("i64[]", "i64[]"), FLOATS)
    ],
    "reshape": [
        Example(fixed(ops.Reshape(sizes(3, 2))), ("T[2, 3]",), ANY),
        Example(fixed(ops.Reshape(sizes(1, 1))), ("T[]",), ANY),
        Example(fixed(ops.Reshape(())), ("T[1]",), ANY),
    ],
    "transpose": [
        Example(fixed(ops.Transpose((1, 0))), ("T[2, 3]",), ANY),
        Example(fixed(ops.Transpose((2, 0, 1))), ("T[2, 1, 3]",), ANY),
    ],
    "broadcast": [
        Example(fixed(ops.Broadcast(sizes(2, 3))), ("T[3]",), ANY),
        Example(fixed(ops.Broadcast(sizes(2, 2, 3))), ("T[2, 1]",), ANY),
        Example(fixed(ops.Broadcast(sizes(2, 1))), ("T[]",), ANY),
    ],
    "concat": [
        Example(fixed(ops.Concat(0)), ("T[2]", "T[1]", "T[3]"), ANY),
        Example(fixed(ops.Concat(1)), ("T[2, 1]", "T[2, 3]"), ANY),
    ],
    "slice": [
        Example(fixed(ops.Slice(0, dim(1), dim(3))), ("T[4]",), ANY),
        Example(fixed(ops.Slice(1, dim(0), dim(1))), ("T[2, 3]",), ANY),
    ],
    "pad": [
        Example(fixed(ops.Pad(0, dim(1), dim(2))), ("T[2]",), ANY),
        Example(fixed(ops.Pad(1, dim(0), dim(1))), ("T[1, 2]",), ANY),
    ],
    "reverse": [
        Example(fixed(ops.Reverse(1)), ("T[2, 3]",), ANY),
        Example(fixed(ops.Reverse(0)), ("T[1]",), ANY),
    ],
    "gather": [
        Example(fixed(ops.Gather()), ("T[3, 2]", "i32[2, 2]"), ANY),
        Example(fixed(ops.Gather()), ("T[3]", "i64[]"), ANY),
        Example(fixed(ops.Gather()), ("T[3, 1]", "u8[1]"), ANY),
    ],
    "scatter_add": [
        Example(fixed(ops.ScatterAdd(dim(4))), ("i32[2, 3]", "T[2, 3, 2]"), NUMBERS),
        Example(fixed(ops.ScatterAdd(dim(3))), ("i64[]", "T[]"), NUMBERS),
    ],
    "reduce_sum": reductions(ops.ReduceSum, smooth=True),
    "reduce_max": reductions(ops.ReduceMax, smooth=True),
    "reduce_min": reductions(ops.ReduceMin, smooth=True),
    "argmax": [
        Example(fixed(ops.ArgMax(1)), ("T[2, 3]",), NUMBERS),
        Example(fixed(ops.ArgMax(0)), ("T[1]",), NUMBERS),
    ],
    "matmul": matrices(),
    "pack_columns": packed_columns(),
    "packed_matmul": packed_products(),
    "attention": [
        Example(fixed(ops.Attention(causal, scale)), shapes) for causal, scale, shapes in ATTENTIONS
    ],
    "attention_gradient": [attention_gradient(*case) for case in ATTENTIONS],
    "conv": [Example(fixed(ops.Conv(**a)), (x, w), NUMBERS) for a, x, w, _ in CONVOLUTIONS],
    "conv_input_gradient": [
        Example(fixed(ops.ConvInputGradient(**a, shape=shape_of(x))), (y, w), NUMBERS)
        for a, x, w, y in CONVOLUTIONS
    ],
    "conv_weight_gradient": [
        Example(fixed(ops.ConvWeightGradient(**a, shape=shape_of(w))), (x, y), NUMBERS)
        for a, x, w, y in CONVOLUTIONS
    ],
    "pack_weights": [
        Example(fixed(ops.PackWeights()), ("T[3, 2, 2, 2]",)),
        Example(fixed(ops.PackWeights(groups=2, backward=True)), ("T[4, 2, 1, 2]",)),
        Example(
            fixed(ops.PackWeights(backward=True, strides=sizes(2, 1), dilations=sizes(1, 2))),
            ("T[2, 3, 3, 2]",),
        ),
        Example(fixed(ops.PackWeights(groups=3)), ("T[3, 1, 2, 2]",)),
        Example(fixed(ops.PackWeights(tile=2)), ("T[2, 1, 3, 3]",)),
    ],
    "conv_last": [
        Example(
            fixed(ops.ConvLast(outputs=dim(3), kernel=sizes(2, 2))),
            ("T[2, 4, 3, 2]", "T[1, 1, 8, 16]"),
        ),
        Example(
            fixed(ops.ConvLast(outputs=dim(3), kernel=sizes(1, 2), groups=3)),
            ("T[1, 4, 3, 3]", "T[1, 1, 2, 3]"),
        ),
        Example(
            fixed(ops.ConvLast(outputs=dim(1), kernel=sizes(3, 3), tile=2)),
            ("T[1, 4, 5, 1]", "T[16, 1, 16, 16]"),
        ),
    ],
    "conv_last_input_gradient": [
        Example(
            fixed(
                ops.ConvLastInputGradient(
                    strides=sizes(2, 1), kernel=sizes(2, 2), shape=sizes(1, 4, 3, 2)
                )
            ),
            ("T[1, 2, 2, 3]", "T[1, 1, 12, 16]"),
        ),
    ],
    "conv_last_weight_gradient": [
        Example(
            fixed(ops.ConvLastWeightGradient(strides=sizes(2, 1), shape=sizes(3, 2, 2, 2))),
            ("T[1, 4, 3, 2]", "T[1, 2, 2, 3]"),
        ),
    ],
    "max_pool": [
        Example(fixed(ops.MaxPool(**a)), (x,), NUMBERS, smooth=False) for a, x, _ in POOLS
    ],
    "max_pool_gradient": [
        Example(fixed(ops.MaxPoolGradient(**a)), (x, y), NUMBERS, smooth=False) for a, x, y in POOLS
    ],
    "max_pool_indexed": [
        Example(fixed(ops.MaxPoolIndexed(**a)), (x,), NUMBERS) for a, x, _ in LAST_POOLS
    ],
    "max_pool_indexed_gradient": [
        Example(
            fixed(ops.MaxPoolIndexedGradient(**a, shape=shape_of(x))),
            (y.replace("T", "u8"), y),
            NUMBERS,
        )
        for a, x, y in LAST_POOLS
    ],
    "sum_pool": [Example(fixed(ops.SumPool(**a)), (x,), NUMBERS) for a, x, _ in POOLS],
    "sum_pool_gradient": [
        Example(fixed(ops.SumPoolGradient(**a, shape=shape_of(x))), (y,), NUMBERS)
        for a, x, y in POOLS
    ],
    "scan": [
        Example(recurrent, ("T[2]", "T[3, 2]", "T[]")),
        Example(lambda t: recurrent(t, reverse=True), ("T[2]", "T[3, 2]", "T[]")),
        Example(lambda t: recurrent(t), ("T[2]", "T[1, 2]", "T[]")),
        Example(mapped, ("T[3]", "T[3]")),
    ],
    "after": [Example(fixed(ops.After()), ("T[2, 3]", "T[4]"), ANY)],
    "fused": [Example(fused, ("T[2, 3]", "T[3]"))],
    "sweep": [
        Example(sweep, ("T[]", "T[2, 3]", "T[2, 3]", "T[5]", "T[5]")),
        Example(sweep, ("T[]", "T[]", "T[]")),
    ],
}
