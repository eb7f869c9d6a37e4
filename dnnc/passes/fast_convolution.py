"""Which convolutions are computed by Winograd's method, and on tiles of which size.

`tile` by `tile` results take `(tile + k - 1)^2` products for each pair of channels instead of
`tile^2 k^2`: of them a quarter for 3 x 3 taps and tiles of 4, 0.16 for 5 x 5 and tiles of 4. The
transforms are paid once for each channel, so they need channels to be shared by, and packing
weights takes longer, which a program that trains does in every step. What pays is measured. A
convolution with dilations is one of as many smaller images as there are places between its taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from dnnc.ir.dims import Dim, ceil_div, dim, product
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import Operator, apply
from dnnc.ops.channels_last import ConvLast, ConvLastWeightGradient, PackWeights
from dnnc.ops.conv import Movement
from dnnc.tuning.decisions import Case, Question, choose, decision

__all__ = ["METHOD", "Step", "winograd_tile"]

#: What is computed: a result by weights that are packed once ("predict") or anew in every step
#: ("forward"), or a gradient by "input" or by "weight".
Step: TypeAlias = Literal["predict", "forward", "input", "weight"]

#: Sizes of tiles, and by that of the kernel the least of them that is taken without having been
#: measured. A result has at least as many rows and columns.
_TILES = 2, 4
_LEAST_USUAL = {3: 4, 5: 2}
#: Fewest channels in and out that pay for the transforms.
_FEWEST = 8


def winograd_tile(
    step: Step,
    x: Value,
    movement: Movement,
    kernel: tuple[Dim, Dim],
    outputs: Dim,
    size: tuple[Dim, ...],
) -> int:
    """The tile for convolving the images x [N, H, W, C] to a result of that `size`, rows and
    columns; 0 where the direct method is as good or the only one."""
    images, _, _, channels = x.shape
    plain = all(step == 1 for step in movement["strides"])
    apart = movement["dilations"]
    smaller = (ceil_div(length, step) for length, step in zip(size, apart, strict=True))
    sizes = tuple(known.constant or 0 for known in (channels, outputs, *smaller))
    if not plain or movement["groups"] != 1 or kernel[0] != kernel[1] or min(sizes[:2]) < _FEWEST:
        return 0
    case: dict[str, int | str] = {
        "step": step,
        "dtype": str(x.type.dtype),
        "taps": kernel[0].constant or 0,
        **dict(zip(("channels", "outputs", "high", "wide"), sizes, strict=True)),
    }
    question = Question(METHOD, tuple(case.items()), images * product(apart))
    return choose(question) if len(_methods(question.case)) > 1 else 0


def _methods(case: Case) -> Sequence[int]:
    """The direct method, and tiles that fit into the result."""
    least = min(_number(case, "high"), _number(case, "wide"))
    tiles = _TILES if _number(case, "taps") in _LEAST_USUAL else ()
    return 0, *(tile for tile in tiles if tile <= least)


def _usual(case: Case) -> int:
    tile = _methods(case)[-1]
    return tile if tile >= _LEAST_USUAL[_number(case, "taps")] else 0


def _alone(case: Case, tile: int) -> Graph:
    """A convolution by that method and nothing else, padded so that images keep their size."""
    taps, channels, outputs = (dim(_number(case, n)) for n in ("taps", "channels", "outputs"))
    dtype, step = DType(case["dtype"]), case["step"]
    image = (dim("batch"), dim(_number(case, "high")), dim(_number(case, "wide")))
    one, pad, kernel = dim(1), taps // 2, (taps, taps)
    movement: Movement = {
        "strides": (one, one),
        "pads": (pad, pad, pad, pad),
        "dilations": (one, one),
        "groups": 1,
    }
    x = Value(TensorType(dtype, (*image, channels)))
    convolved: Operator = ConvLast(**movement, outputs=outputs, kernel=kernel, tile=tile)
    if step == "weight":
        other = Value(TensorType(dtype, (*image, outputs)))
        shape = (outputs, channels, *kernel)
        convolved = ConvLastWeightGradient(**movement, tile=tile, shape=shape)
        result = apply(convolved, x, other)
    else:
        backward = step == "input"
        pack = PackWeights(tile=tile, backward=backward)
        pair = (channels, outputs) if backward else (outputs, channels)
        other = Value(TensorType(dtype, (*pair, *kernel)))
        if step == "predict":
            other = Value(pack.infer(other.type)[0])
        packed = other if step == "predict" else apply(pack, other)
        result = apply(convolved, x, packed)
    inputs = Input("x", x, "data"), Input("other", other, "data")
    return Graph(f"convolution_{tile}", inputs, (Output("result", result),))


def _number(case: Case, name: str) -> int:
    return int(case[name])


#: The size of tiles; 0 for the direct method.
METHOD = decision("convolution", _methods, _usual, _alone)
