"""Schedules against their closed forms, and optimizers against theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dnnc.diagnostics import Collector, DnnError, Source
from dnnc.elaborate.module import load_module
from dnnc.elaborate.network import build_network, graph_of, walk_model
from dnnc.elaborate.scope import JobScope
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType
from dnnc.syntax.parse import parse_expression
from tests.elaborate.networks import Arrays

STEPS = 100
PI = np.pi
MODEL = "model M { in x: [batch, 3]\n out y\n y = x -> dense(2, start = uniform(-1, 1)) as d }"


class Job:
    """A training step of a small model by an optimizer, run by the interpreter."""

    def __init__(self, optimizer: str, clip: str | None = None, outside: str = "") -> None:
        block = load_module(Source("m.dnn", f"{outside}\n{MODEL}")).models["M"]
        walk = walk_model(block, {}, training=True, dtype=DType.F64)
        job, session = JobScope(walk, {}), walk.session
        self.variables = interpret(
            build_network(walk_model(block, {}, training=False, dtype=DType.F64)).initial,
            {"seed": np.array(1, np.int64)},
        )
        errors = Collector()
        with session.collecting(errors), job.scheduled():
            loss = job.loss(expression("mean(y * y)"))
            found = job.optimizer(expression(optimizer))
            updates = job.updates(loss, found, expression(clip) if clip else None)
        errors.raise_if_any()
        self.rate = job.rate
        self.graph = graph_of("step", session, {"loss": loss.value}, job.data, updates)
        for name, declared in session.declared.items():
            if name.startswith("optimizer."):
                self.variables[name] = np.zeros(declared.variable.type.concrete({}))

    def step(self, x: np.ndarray, number: int) -> None:
        wanted = {item.name for item in self.graph.inputs}
        given: Arrays = {"x": x, **self.variables, **scalars(number)}
        found = interpret(self.graph, {n: a for n, a in given.items() if n in wanted})
        self.variables.update({n: a for n, a in found.items() if n != "loss"})

    def learning_rate(self, step: int, steps: int = STEPS) -> float:
        assert self.rate is not None
        wanted = {item.name for item in self.rate.inputs}
        given = {n: a for n, a in scalars(step, steps).items() if n in wanted}
        return float(interpret(self.rate, given)["lr"])


def scalars(step: int, steps: int = STEPS) -> Arrays:
    return {"step": np.array(step, np.int64), "steps": np.array(steps, np.int64)}


def expression(text: str) -> object:
    return parse_expression(Source("<test>", text))


def cosine(s: int, warmup: int = 0, final: float = 0) -> float:
    if s < warmup:
        return 3 * s / warmup
    return final + 0.5 * (3 - final) * (1 + np.cos(PI * (s - warmup) / (STEPS - warmup)))


def one_cycle(s: int, rise: float = 0.3) -> float:
    done = s / STEPS
    if done < rise:
        return 3 * (0.04 + 0.96 * 0.5 * (1 - np.cos(PI * done / rise)))
    falling = 0.5 * (1 + np.cos(PI * (done - rise) / (1 - rise)))
    return 3 * (1e-4 + (1 - 1e-4) * falling)


SCHEDULES: dict[str, Callable[[int], float]] = {
    "3": lambda s: 3,
    "constant(3)": lambda s: 3,
    "constant(3, warmup = 10)": lambda s: min(3, 0.3 * s),
    "linear(3)": lambda s: 3 - 3 * s / STEPS,
    "linear(3, final = 1)": lambda s: 3 - 2 * s / STEPS,
    "linear(3, warmup = 20)": lambda s: 3 * s / 20 if s < 20 else 3 - 3 * (s - 20) / 80,
    "cosine(3)": cosine,
    "cosine(3, warmup = 10)": lambda s: cosine(s, 10),
    "cosine(3, warmup = 10, final = 0.5)": lambda s: cosine(s, 10, 0.5),
    "step(3, every = 30)": lambda s: 3 * 0.1 ** (s // 30),
    "step(3, 10, factor = 0.5)": lambda s: 3 * 0.5 ** (s // 10),
    "step(3, 25, warmup = 5)": lambda s: 3 * s / 5 if s < 5 else 3 * 0.1 ** (s // 25),
    "exponential(3)": lambda s: 3 * 0.999**s,
    "exponential(3, rate = 0.9, warmup = 4)": lambda s: 3 * s / 4 if s < 4 else 3 * 0.9**s,
    "one_cycle(3)": one_cycle,
    "one_cycle(3, rise = 0.5)": lambda s: one_cycle(s, 0.5),
    "1 / sqrt(step)": lambda s: s**-0.5,
    "mine(3)": lambda s: 3 * min(s**-0.5, s * 10**-1.5),
    "if step < 10 then 3 else 1": lambda s: 3 if s < 10 else 1,
}
MINE = "fn mine(peak) = peak * minimum(step ** -0.5, step * 10 ** -1.5)"


@pytest.mark.parametrize(("text", "expected"), SCHEDULES.items(), ids=SCHEDULES)
def test_a_schedule(text: str, expected: Callable[[int], float]) -> None:
    job = Job(f"sgd(lr = {text})", outside=MINE)
    for step in (1, 2, 4, 5, 9, 10, 11, 19, 20, 30, 49, 50, 60, 99, 100):
        assert job.learning_rate(step) == pytest.approx(expected(step), rel=1e-9, abs=1e-12)


def test_a_schedule_over_the_warmup_alone() -> None:
    assert np.isfinite(Job("sgd(lr = cosine(3, warmup = 10))").learning_rate(10, 10))


# --- optimizers -----------------------------------------------------------------------------------

Update = Callable[[np.ndarray, np.ndarray, dict[str, np.ndarray], int], np.ndarray]


def sgd(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    return p - 0.1 * g


def momentum(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0 * g) + g
    return p - 0.1 * s["v"]


def nesterov(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0 * g) + g
    return p - 0.1 * (g + 0.9 * s["v"])


def adagrad(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    s["s"] = s.get("s", 0 * g) + g * g
    return p - 0.1 * g / (np.sqrt(s["s"]) + 1e-10)


def rmsprop(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    s["s"] = 0.99 * s.get("s", 0 * g) + 0.01 * g * g
    return p - 0.1 * g / (np.sqrt(s["s"]) + 1e-8)


def adam(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    s["m"] = 0.9 * s.get("m", 0 * g) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0 * g) + 0.001 * g * g
    return p - 0.1 * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)


def adamw(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    return adam(p, g, s, t) - 0.1 * 0.01 * p


def lion(p: np.ndarray, g: np.ndarray, s: dict[str, np.ndarray], t: int) -> np.ndarray:
    m = s.get("m", 0 * g)
    s["m"] = 0.99 * m + 0.01 * g
    return p - 0.1 * np.sign(0.9 * m + 0.1 * g)


@pytest.mark.parametrize(
    "update", [sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lion],
    ids=lambda update: update.__name__,
)  # fmt: skip
def test_an_optimizer(update: Update) -> None:
    job = Job(f"{update.__name__}(lr = 0.1)")
    w, b = (job.variables[f"d.{n}"].copy() for n in ("weight", "offset"))
    kept: tuple[dict[str, np.ndarray], ...] = ({}, {})
    for t in range(1, 5):
        x = np.random.default_rng(t).normal(size=(6, 3))
        job.step(x, t)
        dy = 2 * (x @ w + b) / 12
        w, b = update(w, x.T @ dy, kept[0], t), update(b, dy.sum(0), kept[1], t)
        assert np.allclose(job.variables["d.weight"], w)
        assert np.allclose(job.variables["d.offset"], b)


def gradients(x: np.ndarray, job: Job) -> tuple[np.ndarray, np.ndarray]:
    dy = 2 * (x @ job.variables["d.weight"] + job.variables["d.offset"]) / (2 * len(x))
    return x.T @ dy, dy.sum(0)


def test_gradients_are_clipped_by_their_norm() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    for limit in (0.01, 100.0):
        job = Job("sgd(lr = 1)", clip=f"norm({limit})")
        before = job.variables["d.weight"]
        dw, db = gradients(x, job)
        length = np.sqrt((dw**2).sum() + (db**2).sum())
        job.step(x, 1)
        factor = min(1, limit / (length + 1e-6))
        assert np.allclose(job.variables["d.weight"], before - factor * dw)


def test_gradients_are_clipped_by_their_value() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    job = Job("sgd(lr = 1)", clip="value(0.1)")
    before = job.variables["d.weight"]
    dw, _ = gradients(x, job)
    job.step(x, 1)
    assert np.allclose(job.variables["d.weight"], before - np.clip(dw, -0.1, 0.1))


def test_an_optimizer_of_ones_own() -> None:
    outside = """optimizer mine(lr = 0.1, pull = 0.5) { in w, slope, now
        state seen = 0
        state mean: [2] = 0
        seen = seen + abs(slope)
        w = w - lr * now * slope / (1 + seen) + pull * 0 }"""
    with pytest.raises(DnnError):
        Job("mine(lr = 1, pul = 2)", outside=outside)
    job = Job("mine", outside=outside)
    x = np.random.default_rng(0).normal(size=(6, 3))
    before, (dw, _) = job.variables["d.weight"], gradients(x, job)
    job.step(x, 3)
    assert np.allclose(job.variables["d.weight"], before - 0.3 * dw / (1 + abs(dw)))
    assert job.variables["optimizer.mean/d.weight"].shape == (2,)


@pytest.mark.parametrize(
    ("optimizer", "code"),
    [
        ("relu", "E411"),
        ("dense(3)", "E411"),
        ("3", "E411"),
        ("adam(rate = 3)", "E102"),
        ("adam(1, 2, 3, 4, 5)", "E103"),
        ("two", "E411"),
        ("unchanged_shape", "E411"),
    ],
)
def test_what_is_no_optimizer(optimizer: str, code: str) -> None:
    outside = """optimizer two { in p, g\n p = p - g }
    optimizer unchanged_shape { in p, g, t\n p = sum(p) }"""
    with pytest.raises(DnnError) as caught:
        Job(optimizer, outside=outside)
    assert {d.code for d in caught.value.diagnostics} == {code}
