"""The report of a run as one page that needs nothing from anywhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from dnnc.elaborate.plan import TrainingPlan
from dnnc.train.progress import duration, grouped, number
from dnnc.train.report.markup import Markup, element, join
from dnnc.train.report.network import network_picture
from dnnc.train.report.plot import Line, line_chart
from dnnc.train.report.predictions import Predictions
from dnnc.train.report.results import results

__all__ = ["Facts", "page"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the page shows. `macs` are by instance path, `data` (title, value) rows."""

    plan: TrainingPlan
    history: Sequence[dict[str, Any]]
    settings: dict[str, Any]
    program: str
    examples: dict[str, int]
    data: Sequence[tuple[str, str]]
    macs: dict[str, int]
    predictions: Predictions | None
    seconds: float

    def kind(self, kind: str) -> list[dict[str, Any]]:
        """Lines of the log of one kind."""
        return [entry for entry in self.history if entry["kind"] == kind]

    @property
    def best(self) -> dict[str, Any] | None:
        """The epoch whose weights were kept."""
        improved = [entry for entry in self.kind("epoch") if entry["improved"]]
        return improved[-1] if improved else None


def page(facts: Facts) -> str:
    """The page as HTML."""
    folder = resources.files("dnnc.train.report")
    template = Template(folder.joinpath("page.html.tmpl").read_text(encoding="utf-8"))
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        _section("Learning curves", _curves(facts)),
        _section("Predictions", results(facts.predictions)) if facts.predictions else Markup(""),
        _section("Network", _scrolling(network_picture(facts.plan.network, facts.macs))),
        _section("Run", _run(facts)),
        _section("Program", element("pre", _listing(facts.program)))
        if facts.program
        else Markup(""),
    ]
    return template.substitute(
        title=element("title", f"{facts.plan.name}: training report"),
        style=style,
        heading=element("h1", facts.plan.name),
        summary=element("p", _summary(facts), class_="summary"),
        figures=_key_figures(facts),
        sections=join(sections),
    )


def _section(title: str, body: Markup) -> Markup:
    return element("section", element("h2", title), body)


def _scrolling(picture: Markup) -> Markup:
    return element("div", picture, class_="scroll")


def _summary(facts: Facts) -> str:
    epochs, best = facts.kind("epoch"), facts.best
    if not epochs:
        return "No epoch was finished."
    steps = grouped(epochs[-1]["step"])
    count = _counted(len(epochs), "epoch")
    sentences = [f"{count} and {steps} steps in {duration(facts.seconds)}."]
    if any(entry["reason"] == "early stop" for entry in facts.kind("end")):
        sentences.append("It stopped early, because the validation split showed no further gain.")
    if best is not None:
        sentences.append(
            f"Kept are the weights of epoch {best['epoch']}, "
            f"the best by {facts.plan.monitor} on the validation split."
        )
    return " ".join(sentences)


def _counted(count: int, noun: str) -> str:
    return f"{grouped(count)} {noun}" + ("" if count == 1 else "s")


def _key_figures(facts: Facts) -> Markup:
    figures: list[tuple[str, str]] = []
    split, metrics = _final_metrics(facts)
    names = [*[name for name in metrics if name != "loss"][:2], "loss"]
    figures += [(number(metrics[name]), f"{split} {name}") for name in names if name in metrics]
    parameters = sum(v.size for v in facts.plan.network.parameters.values())
    figures.append((grouped(parameters), "parameters"))
    if facts.macs:
        figures.append((grouped(sum(facts.macs.values())), "MACs an example"))
    items = [element("div", element("dd", value), element("dt", label)) for value, label in figures]
    return element("dl", *items, class_="figures")


def _final_metrics(facts: Facts) -> tuple[str, dict[str, Any]]:
    tests, best = facts.kind("test"), facts.best
    if tests:
        return "test", tests[-1]["test"]
    if best is not None:
        return "validation", best["validation"]
    epochs = facts.kind("epoch")
    return "training", epochs[-1]["train"] if epochs else {}


def _curves(facts: Facts) -> Markup:
    epochs = facts.kind("epoch")
    if not epochs:
        return element("p", "No epoch was finished.", class_="empty")
    mark = float(facts.best["epoch"]) if facts.best else None
    charts = []
    for name in facts.plan.evaluation.names:
        values = [(entry["epoch"], (entry["validation"] or {}).get(name)) for entry in epochs]
        points = [(float(x), float(y)) for x, y in values if isinstance(y, int | float)]
        if name != "loss" and len(points) > 1:
            line = Line(points, "validation", "validation")
            charts.append(line_chart([line], title=_capital(name), x_label="epoch", mark=mark))
    per_epoch = epochs[0]["step"] / epochs[0]["epoch"]
    rates = [
        (entry["step"] / per_epoch, float(entry["learning_rate"]))
        for entry in facts.history
        if entry["kind"] in ("step", "epoch") and entry["learning_rate"] is not None
    ]
    # A constant rate stands among the settings.
    if len({rate for _, rate in rates}) > 1:
        line = Line(rates, "rate")
        charts.append(line_chart([line], title="Learning rate", x_label="epoch", zero=True))
    width = 880.0 if len(charts) % 2 == 0 else 430.0
    return element("div", _loss_chart(facts, mark, width), *charts, class_="charts")


def _loss_chart(facts: Facts, mark: float | None, width: float) -> Markup:
    epochs = facts.kind("epoch")
    per_epoch = epochs[0]["step"] / epochs[0]["epoch"]
    steps = [
        (entry["step"] / per_epoch, float(entry["loss"]))
        for entry in facts.kind("step")
        if entry["loss"] is not None
    ]
    train = [
        (float(entry["epoch"]), float(entry["train"]["loss"]))
        for entry in epochs
        if entry["train"]["loss"] is not None
    ]
    validation = [
        (float(entry["epoch"]), float(entry["validation"]["loss"]))
        for entry in epochs
        if entry["validation"] is not None and entry["validation"]["loss"] is not None
    ]
    lines = [
        Line(steps, "train thin" if len(epochs) < 3 else "train faint"),
        Line(train, "train", "training"),
        Line(validation, "validation", "validation"),
    ]
    return line_chart(lines, title="Loss", x_label="epoch", mark=mark, width=width)


def _listing(program: str) -> Markup:
    """The program with its comments set back."""
    lines = []
    for line in program.rstrip().splitlines():
        code, sign, comment = line.partition("#")
        if sign and code.count('"') % 2 == 0:
            lines.append(join([code, element("span", sign + comment, class_="comment")]))
        else:
            lines.append(join([line]))
    return element("code", join(lines, "\n"))


def _run(facts: Facts) -> Markup:
    plan, settings = facts.plan, facts.settings
    training = [
        ("epochs", grouped(plan.epochs)),
        ("batch", grouped(plan.batch)),
        ("seed", str(plan.seed)),
        *((name, _shown(value)) for name, value in plan.settings.items()),
    ]
    model = [(name, _shown(value)) for name, value in plan.network.settings.items()]
    epochs = facts.kind("epoch")
    spent = sum(entry["epoch_seconds"] for entry in epochs)
    rate = facts.examples.get("train", 0) * len(epochs) / spent if spent else float("nan")
    compiling = sum(entry["compile_seconds"] for entry in facts.kind("end"))
    times = [
        ("total time", duration(facts.seconds)),
        ("of it compiling", duration(compiling)),
        ("an epoch", duration(spent / len(epochs)) if epochs else "–"),
        ("examples a second", grouped(rate)),
    ]
    machine = [(name, str(version)) for name, version in settings.get("versions", {}).items()] + [
        ("machine", str(settings.get("machine", "")))
    ]
    splits = [(f"{name} examples", grouped(count)) for name, count in facts.examples.items()]
    groups = [
        ("Training", _unique(training)),
        ("Model", [("name", plan.network.name), *model]),
        ("Data", [("name", plan.data), *splits, *facts.data]),
        ("Time", times),
        ("Made with", machine),
    ]
    return element("div", *(_table(title, rows) for title, rows in groups if rows), class_="run")


def _unique(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(dict(rows).items())


def _table(title: str, rows: Sequence[tuple[str, str]]) -> Markup:
    lines = [element("tr", element("th", name), element("td", value)) for name, value in rows]
    return element("div", element("h3", title), element("table", *lines))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
