"""The network as a picture: its layers in order, nested as in the file, with shapes and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dnnc.elaborate.plan import Layer, Network
from dnnc.ir.types import TensorType
from dnnc.train.progress import grouped
from dnnc.train.report.markup import Markup, element

__all__ = ["network_picture"]

_WIDTH, _TREE = 880.0, 400.0
_ROW, _GAP, _INSET, _HEADER, _FOOT = 28.0, 8.0, 12.0, 28.0, 8.0
_SHAPE_X, _PARAMETERS_X, _MACS_X, _BAR = 424.0, 740.0, 880.0, 100.0


@dataclass(slots=True)
class _Box:
    """A layer with those inside it; `times` equal ones in a row are drawn once."""

    layer: Layer
    inner: list[_Box] = field(default_factory=list)
    macs: int = 0
    times: int = 1
    last: str = ""

    @property
    def parameters(self) -> int:
        return self.layer.parameters + sum(box.parameters * box.times for box in self.inner)

    @property
    def all_macs(self) -> int:
        return self.macs + sum(box.all_macs * box.times for box in self.inner)

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal for boxes that look the same."""
        inner = tuple((box.signature, box.times) for box in self.inner)
        return (self.layer.block, self.layer.parameters, str(self.layer.output), self.macs, inner)

    @property
    def height(self) -> float:
        if not self.inner:
            return _ROW
        return (
            _HEADER + sum(box.height for box in self.inner) + _GAP * (len(self.inner) - 1) + _FOOT
        )


def network_picture(network: Network, macs: Mapping[str, int]) -> Markup:
    """An SVG drawing; `macs` are operations of one example by instance path."""
    boxes = _folded(_tree(network.layers, macs))
    most_parameters = max([leaf.parameters for leaf in _leaves(boxes)], default=0)
    most_macs = max([leaf.all_macs for leaf in _leaves(boxes)], default=0)
    painter = _Painter(max(most_parameters, 1), max(most_macs, 1))
    painter.heading()
    for name, type in network.inputs.items():
        painter.end(name, type)
    painter.stack(boxes, 0)
    for name, type in network.outputs.items():
        painter.end(name, type)
    return element(
        "svg",
        *painter.parts,
        viewBox=f"0 0 {_WIDTH:g} {painter.y:g}",
        role="img",
        aria_label=f"The layers of {network.name}",
        class_="network",
    )


class _Painter:
    """Draws from the top down; `y` is where the next thing goes."""

    def __init__(self, most_parameters: int, most_macs: int) -> None:
        self.most_parameters, self.most_macs = most_parameters, most_macs
        self.parts: list[Markup] = []
        self.y = 0.0
        self._below: float | None = None

    def heading(self) -> None:
        for x, title, side in (
            (0.0, "layer, in the order of the text", "start"),
            (_SHAPE_X, "output", "start"),
            (_PARAMETERS_X, "parameters", "end"),
            (_MACS_X, "MACs an example", "end"),
        ):
            self._text(title, x, self.y + 12, f"head {side}")
        self.y += 24

    def end(self, name: str, type: TensorType) -> None:
        """An input or an output of the network."""
        self._arrow()
        self._box(0, _ROW, "terminal")
        self._text(name, 14, self.y + 18, "name")
        self._text(str(type), _SHAPE_X, self.y + 18, "shape")
        self._below = self.y + _ROW
        self.y += _ROW + _GAP

    def stack(self, boxes: Sequence[_Box], depth: int) -> None:
        for box in boxes:
            # Inside a block the order of the text need not be the way of the data.
            if depth == 0:
                self._arrow()
            if box.inner:
                self._container(box, depth)
            else:
                self._box(depth, _ROW, "leaf" if box.parameters else "leaf plain")
                self._row(box, depth)
                self._below = self.y + _ROW
                self.y += _ROW + _GAP

    def _container(self, box: _Box, depth: int) -> None:
        bottom = self.y + box.height
        self._box(depth, box.height, "container")
        self._row(box, depth)
        self.y += _HEADER
        self._below = None
        self.stack(box.inner, depth + 1)
        self.y = bottom + _GAP
        self._below = bottom

    def _row(self, box: _Box, depth: int) -> None:
        left, base = depth * _INSET + 14, self.y + 18
        name = box.layer.path.rpartition(".")[2]
        if box.times > 1:
            name = f"{name} … {box.last}"
        name = _short(name, 26 - depth)
        self._text(name, left, base, "name")
        block = f"{box.layer.block} × {box.times}" if box.times > 1 else box.layer.block
        self._text(_short(block, 22), _TREE - depth * _INSET - 14, base, "block end")
        if box.layer.output is not None:
            self._text(_short(str(box.layer.output), 28), _SHAPE_X, base, "shape")
        total = "number total" if box.inner else "number"
        for x, value, most in (
            (_PARAMETERS_X, box.parameters * box.times, self.most_parameters),
            (_MACS_X, box.all_macs * box.times, self.most_macs),
        ):
            if not value:
                continue
            self._text(grouped(value), x, base if box.inner else base - 1, f"{total} end")
            if not box.inner:
                width = max(1.0, _BAR * value / max(most, value))
                self.parts.append(
                    element(
                        "rect", x=x - width, y=base + 4, width=width, height=2.5, class_="share"
                    )
                )

    def _box(self, depth: int, height: float, style: str) -> None:
        self.parts.append(
            element(
                "rect",
                x=depth * _INSET + 0.5,
                y=self.y + 0.5,
                width=_TREE - 2 * depth * _INSET - 1,
                height=height - 1,
                rx=_ROW / 2 if style == "terminal" else 5,
                class_=style,
            )
        )

    def _arrow(self) -> None:
        if self._below is not None:
            x = _TREE / 2
            self.parts.append(element("line", x1=x, x2=x, y1=self._below, y2=self.y, class_="wire"))

    def _text(self, content: str, x: float, y: float, style: str) -> None:
        self.parts.append(element("text", content, x=x, y=y, class_=style))


def _tree(layers: Sequence[Layer], macs: Mapping[str, int]) -> list[_Box]:
    boxes = {layer.path: _Box(layer) for layer in layers}
    roots: list[_Box] = []
    for path, box in boxes.items():
        holder = _holder(path, boxes)
        (boxes[holder].inner if holder is not None else roots).append(box)
    for path, count in macs.items():
        place = path if path in boxes else _holder(path, boxes)
        if place is not None:
            boxes[place].macs += count
    return roots


def _holder(path: str, boxes: Mapping[str, _Box]) -> str | None:
    """The innermost layer around an instance path."""
    while path:
        path = path.rpartition(".")[0]
        if path in boxes:
            return path
    return None


def _folded(boxes: Sequence[_Box]) -> list[_Box]:
    """Runs of layers that look the same become one box."""
    result: list[_Box] = []
    for box in boxes:
        box.inner = _folded(box.inner)
        before = result[-1] if result else None
        if before is not None and box.inner and before.signature == box.signature:
            before.times += 1
            before.last = box.layer.path.rpartition(".")[2]
        else:
            result.append(box)
    return result


def _leaves(boxes: Sequence[_Box]) -> list[_Box]:
    return [leaf for box in boxes for leaf in (_leaves(box.inner) if box.inner else [box])]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
