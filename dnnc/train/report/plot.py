"""Line charts, scatter plots and histograms as SVG, drawn with the colours of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dnnc.train.progress import number
from dnnc.train.report.markup import Markup, element, join

__all__ = ["Line", "Scale", "histogram", "line_chart", "scatter"]

_WIDTH, _HEIGHT = 430.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 92.0, 14.0, 30.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; `style` is a class of the style sheet, `label` stands at its end ("": none)."""

    points: Points
    style: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low … high` to the pixels `start … end`, by logarithms where `logarithmic`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Round values within the range, about `count` of them."""
        if self.logarithmic:
            return _logarithmic_ticks(self.low, self.high, count)
        return _linear_ticks(self.low, self.high, count)


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    mark: float | None = None,
    zero: bool = False,
    width: float = _WIDTH,
) -> Markup:
    """Curves over a common axis. `mark` is the x of a vertical line, `zero` lets y begin at 0.

    `width` is in pixels, of which the whole page has 880.
    """
    lines = [Line(_finite(line.points), line.style, line.label) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return element("p", "No finite values to draw.", class_="empty")
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    across = Scale(min(xs), max(xs), _LEFT, width - _RIGHT)
    up = _vertical(ys, zero)
    parts = [_grid(up, across.end), _x_axis(across, x_label)]
    if mark is not None:
        x = across(mark)
        parts.append(element("line", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark"))
    parts += [_curve(line, across, up) for line in lines]
    parts.append(_end_labels(lines, up, across.end + 8))
    return _figure(parts, title, width)


def scatter(points: Points, *, title: str, x_label: str, y_label: str) -> Markup:
    """Points with the diagonal on which both coordinates agree."""
    points = _finite(points)
    if not points:
        return element("p", "No finite values to draw.", class_="empty")
    values = [v for point in points for v in point]
    low, high = _padded(min(values), max(values))
    side = _HEIGHT - _TOP - _BOTTOM
    across = Scale(low, high, _LEFT, _WIDTH - 20)
    up = Scale(low, high, _TOP + side, _TOP)
    diagonal = element(
        "line", x1=across(low), y1=up(low), x2=across(high), y2=up(high), class_="mark"
    )
    dots = [element("circle", cx=across(x), cy=up(y), r=2.2, class_="dot") for x, y in points]
    label = element("text", y_label, x=_LEFT + 6, y=_TOP + 10, class_="axis-label")
    return _figure([_grid(up, across.end), _x_axis(across, x_label), diagonal, *dots, label], title)


def histogram(values: Sequence[float], *, title: str, x_label: str) -> Markup:
    """How often values fall into equal parts of their range."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return element("p", "No finite values to draw.", class_="empty")
    low, high = _padded(min(values), max(values))
    bins = max(9, min(31, round(1.5 * math.sqrt(len(values)))))
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    across = Scale(low, high, _LEFT, _WIDTH - 20)
    up = Scale(0, max(counts) * 1.05, _HEIGHT - _BOTTOM, _TOP)
    width = (across.end - across.start) / bins
    bars = [
        element(
            "rect",
            x=across.start + index * width + 0.5,
            y=up(count),
            width=width - 1,
            height=up(0) - up(count),
            class_="bar",
        )
        for index, count in enumerate(counts)
        if count
    ]
    zero = across(0) if low < 0 < high else None
    line = (
        [element("line", x1=zero, x2=zero, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark")]
        if zero is not None
        else []
    )
    return _figure([_grid(up, across.end), _x_axis(across, x_label), *bars, *line], title)


def _figure(parts: Sequence[Markup], title: str, width: float = _WIDTH) -> Markup:
    drawing = element(
        "svg",
        *parts,
        viewBox=f"0 0 {width:g} {_HEIGHT:g}",
        role="img",
        aria_label=title,
        class_="chart",
    )
    style = "wide" if width > _WIDTH else None
    return element("figure", element("figcaption", title), drawing, class_=style)


def _vertical(values: Sequence[float], zero: bool) -> Scale:
    low, high = min(values), max(values)
    bottom, top = _HEIGHT - _BOTTOM, _TOP
    if low > 0 and high / low > 50:
        return Scale(low / 1.2, high * 1.2, bottom, top, logarithmic=True)
    low, high = _padded(low, high)
    return Scale(0.0 if zero and min(values) >= 0 else low, high, bottom, top)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _grid(up: Scale, right: float) -> Markup:
    parts = []
    for value in up.ticks(5):
        y = up(value)
        parts.append(element("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", _tick(value), x=_LEFT - 8, y=y + 3.5, class_="tick end"))
    return join(parts)


def _x_axis(across: Scale, label: str) -> Markup:
    base = _HEIGHT - _BOTTOM
    parts = [element("line", x1=across.start, x2=across.end, y1=base, y2=base, class_="base")]
    for value in across.ticks(6):
        x = across(value)
        parts.append(element("line", x1=x, x2=x, y1=base, y2=base + 4, class_="base"))
        parts.append(element("text", _tick(value), x=x, y=base + 16, class_="tick middle"))
    parts.append(element("text", label, x=across.end, y=_HEIGHT - 1, class_="axis-label end"))
    return join(parts)


def _curve(line: Line, across: Scale, up: Scale) -> Markup:
    placed = [(across(x), up(y)) for x, y in _thinned(line.points)]
    if len(placed) == 1:
        return element(
            "circle", cx=placed[0][0], cy=placed[0][1], r=3, class_=f"point {line.style}"
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return element("polyline", points=path, class_=f"line {line.style}")


def _end_labels(lines: Sequence[Line], up: Scale, x: float) -> Markup:
    """Name and last value at the end of each curve, moved apart where they would overlap."""
    labelled = [line for line in lines if line.label]
    labelled.sort(key=lambda line: up(line.points[-1][1]))
    parts, free = [], _TOP
    lowest = _HEIGHT - _BOTTOM - 14 - 26 * (len(labelled) - 1)
    for number_above, line in enumerate(labelled):
        y = min(max(up(line.points[-1][1]), free), lowest + 26 * number_above)
        free = y + 26
        name = element("tspan", line.label, x=x)
        value = element("tspan", number(line.points[-1][1]), x=x, dy=12, class_="value")
        parts.append(element("text", name, value, y=y, class_=f"label {line.style}"))
    return join(parts)


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None and math.isfinite(y) and math.isfinite(x)]


def _thinned(points: Points, most: int = 600) -> Points:
    if len(points) <= most:
        return points
    every = math.ceil(len(points) / most)
    return [*points[::every], points[-1]]


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / max(count, 1)
    if rough <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _logarithmic_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten; with 2 and 5 between where there are few, some left out where many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [
            value
            for power in powers
            for factor in factors
            if low <= (value := float(f"{factor}e{power}")) <= high
        ]
        if len(found) <= count + 2:
            return found
    return found[:: math.ceil(len(found) / count)]


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    if value < 0:
        return f"−{_tick(-value)}"
    if abs(value) >= 1e5 or abs(value) < 1e-4:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"
