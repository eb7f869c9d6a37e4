"""A small hand-made training job with everything that resuming must bring back.

Dropout draws random numbers, the optimizer and the network have states, data are reshaped, and the
last batch of an epoch is short. As a script it runs the job in a folder, for tests that kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.diagnostics import Source, Span
from dnnc.elaborate.plan import EarlyStop, Evaluation, Layer, Network, TrainingPlan, Variable
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Origin, Output, Value, origin
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType, TensorType
from dnnc.train.loop import train
from dnnc.train.result import Options, TrainingResult

F32, I64 = DType.F32, DType.I64
BATCH = dim("batch")
HIDDEN, CLASSES = 10, 3

SOURCE = Source(
    "blobs.dnn",
    "model Blobs {\n    x -> dense(10) -> relu -> dense(3)\n}\ntrain Blobs on Points { }\n",
)
PARAMETERS = {
    "dense_1.weight": (16, HIDDEN),
    "dense_1.offset": (HIDDEN,),
    "dense_2.weight": (HIDDEN, CLASSES),
    "dense_2.offset": (CLASSES,),
}


def place(snippet: str) -> Span:
    start = SOURCE.text.index(snippet)
    return Span(SOURCE, start, start + len(snippet))


def tensor(dtype: DType, *shape: Any) -> TensorType:
    return TensorType.make(dtype, shape)


def scalar(name: str) -> Input:
    return Input(name, Value(tensor(I64), hint=name), "scalar")


def parameter_inputs() -> dict[str, Input]:
    return {
        name: Input(name, Value(tensor(F32, *shape), hint=name), "parameter")
        for name, shape in PARAMETERS.items()
    }


def state_input() -> Input:
    return Input("running", Value(tensor(F32, 16), hint="running"), "state")


def image_input() -> Input:
    return Input("image", Value(tensor(F32, BATCH, 1, 4, 4), hint="image"), "data")


def label_input() -> Input:
    return Input("label", Value(tensor(I64, BATCH), hint="label"), "data")


def forward(x: Value, p: Mapping[str, Input], keep: Value | None = None) -> Value:
    """Logits; `keep` masks the hidden layer."""
    x = ops.reshape(x, (BATCH, 16))
    with origin(Origin(place("dense(10)"), "dense_1")):
        h = ops.matmul(x, p["dense_1.weight"].value)
        h = ops.add(h, p["dense_1.offset"].value)
    with origin(Origin(place("relu"), "")):
        h = ops.maximum(h, 0.0)
    if keep is not None:
        h = ops.multiply(h, keep)
    with origin(Origin(place("dense(3)"), "dense_2")):
        h = ops.matmul(h, p["dense_2.weight"].value)
        return ops.add(h, p["dense_2.offset"].value)


def cross_entropies(logits: Value, label: Value) -> Value:
    """[batch]"""
    shifted = ops.subtract(logits, ops.reduce_max(logits, (1,), keep=True))
    total = ops.log(ops.reduce_sum(ops.exp(shifted), (1,)))
    return ops.subtract(total, ops.reduce_sum(ops.multiply(shifted, one_hot(label)), (1,)))


def one_hot(label: Value) -> Value:
    hot = ops.equal(ops.reshape(label, (BATCH, 1)), ops.iota((1, CLASSES), 1))
    return ops.cast(hot, F32)


def initial_graph() -> Graph:
    seed = scalar("seed")
    step = ops.constant(0, I64)
    outputs = []
    for number, (name, shape) in enumerate(PARAMETERS.items()):
        drawn = ops.random_uniform(seed.value, step, shape, number)
        outputs.append(Output(name, ops.multiply(ops.subtract(drawn, 0.5), 0.8)))
    outputs.append(Output("running", ops.constant(np.zeros(16), F32)))
    return Graph("initial", (seed,), tuple(outputs))


def step_graph(rate: float, poison: int | None) -> Graph:
    """SGD with momentum; at step `poison` the loss takes the logarithm of a negative number."""
    image, label, running, p = image_input(), label_input(), state_input(), parameter_inputs()
    moments = {
        name: Input(f"optimizer.m/{name}", Value(item.value.type, hint="m"), "state")
        for name, item in p.items()
    }
    step, steps, seed = scalar("step"), scalar("steps"), scalar("seed")
    drawn = ops.random_uniform(seed.value, step.value, (BATCH, HIDDEN), 100)
    keep = ops.cast(ops.less(drawn, 0.9), F32)
    each = cross_entropies(forward(image.value, p, keep), label.value)
    count = ops.cast(ops.size(BATCH), F32)
    loss = ops.divide(ops.reduce_sum(each, (0,)), count)
    if poison is not None:
        with origin(Origin(place("relu"), "dense_2")):
            now = ops.cast(ops.less(step.value, poison), F32)
            loss = ops.add(loss, ops.log(ops.subtract(ops.multiply(now, 2.0), 1.0)))
    parameters = [item.value for item in p.values()]
    outputs = [Output("loss", loss)]
    for (name, item), g in zip(p.items(), gradients(loss, parameters), strict=True):
        moment = ops.add(ops.multiply(moments[name].value, 0.9), g)
        outputs.append(Output(f"m {name}", moment, moments[name].name))
        outputs.append(Output(name, ops.subtract(item.value, ops.multiply(moment, rate)), name))
    flat = ops.reshape(image.value, (BATCH, 16))
    mean = ops.divide(ops.reduce_sum(flat, (0,)), count)
    blended = ops.add(ops.multiply(running.value, 0.9), ops.multiply(mean, 0.1))
    outputs.append(Output("running'", blended, "running"))
    inputs = (image, label, *p.values(), running, *moments.values(), step, steps, seed)
    return Graph("step", inputs, tuple(outputs))


def evaluation() -> Evaluation:
    image, label, p = image_input(), label_input(), parameter_inputs()
    logits = forward(image.value, p)
    right = ops.cast(ops.equal(ops.argmax(logits, 1), label.value), F32)
    sums = Graph(
        "sums",
        (image, label, *p.values()),
        (
            Output("0", ops.reduce_sum(cross_entropies(logits, label.value), (0,))),
            Output("1", ops.reduce_sum(right, (0,))),
            Output("2", ops.reduce_max(logits, (0, 1))),
        ),
    )
    totals = [Input(str(i), Value(tensor(F32)), "data") for i in range(3)]
    batch = scalar("batch")
    count = ops.cast(batch.value, F32)
    finish = Graph(
        "finish",
        (*totals, batch),
        (
            Output("loss", ops.divide(totals[0].value, count)),
            Output("accuracy", ops.divide(totals[1].value, count)),
            Output("largest", totals[2].value),
        ),
    )
    how = {"0": "add", "1": "add", "2": "max"}
    return Evaluation(sums, how, finish, ("loss", "accuracy", "largest"))


def network() -> Network:
    image, p = image_input(), parameter_inputs()
    logits = forward(image.value, p)
    hidden = tensor(F32, BATCH, HIDDEN)
    return Network(
        name="Blobs",
        settings={"hidden": HIDDEN},
        inputs={"image": image.value.type},
        outputs={"logits": logits.type},
        parameters={n: Variable(n, item.value.type) for n, item in p.items()},
        states={"running": Variable("running", tensor(F32, 16))},
        layers=(
            Layer("dense_1", "dense", 170, hidden, place("dense(10)")),
            Layer("dense_2", "dense", 33, logits.type, place("dense(3)")),
        ),
        initial=initial_graph(),
        predict=Graph("predict", (image, *p.values()), (Output("logits", logits),)),
    )


def small_plan(
    epochs: int = 4,
    rate: float = 0.05,
    seed: int = 3,
    stop: EarlyStop | None = None,
    poison: int | None = None,
    monitor: str = "loss",
) -> TrainingPlan:
    p = parameter_inputs()
    states = {f"optimizer.m/{n}": Variable(f"optimizer.m/{n}", i.value.type) for n, i in p.items()}
    zeros = tuple(
        Output(f"optimizer.m/{n}", ops.broadcast(ops.constant(0.0, F32), i.value.shape))
        for n, i in p.items()
    )
    step, steps = scalar("step"), scalar("steps")
    lr = ops.multiply(ops.cast(step.value, F32), rate)
    return TrainingPlan(
        name="Blobs on Points",
        network=network(),
        data="Points",
        fields=("image", "label"),
        step=step_graph(rate, poison),
        optimizer_states=states,
        initial_optimizer=Graph("initial_optimizer", tuple(p.values()), zeros),
        evaluation=evaluation(),
        epochs=epochs,
        batch=16,
        seed=seed,
        target=("logits", "label"),
        stop=stop,
        monitor=monitor,
        monitor_larger=monitor == "accuracy",
        learning_rate=Graph("lr", (step, steps), (Output("lr", lr),)),
        settings={"optimizer": "momentum(0.05)"},
        span=place("train Blobs on Points"),
    )


@dataclass
class Rows:
    """A split held in memory."""

    arrays: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        return len(self.arrays["label"])

    def take(
        self, indices: np.ndarray, names: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        return {name: self.arrays[name][indices] for name in names or self.arrays}


@dataclass
class Named:
    classes: tuple[str, ...] | None = None


@dataclass
class Points:
    """Three clouds in sixteen dimensions; images are stored flat and in double precision."""

    splits: dict[str, Rows]
    fingerprint: str = "points-1"
    fields: dict[str, Named] = field(
        default_factory=lambda: {"image": Named(), "label": Named(("ant", "bee", "<cat>"))}
    )


def points(train: int = 100, validation: int = 37, test: int = 41, seed: int = 1) -> Points:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(CLASSES, 16))

    def rows(count: int) -> Rows:
        label = generator.integers(0, CLASSES, count)
        image = centres[label] + generator.normal(size=(count, 16)) * 1.5
        return Rows({"image": image, "label": label, "unused": label})

    sizes = {"train": train, "validation": validation, "test": test}
    return Points({name: rows(count) for name, count in sizes.items() if count})


def interpreted(graph: Graph) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """What compiling gives, through the reference interpreter."""
    wanted = {item.name for item in graph.inputs}

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert inputs.keys() == wanted
        with np.errstate(all="ignore"):
            found = interpret(graph, inputs)
        for output in graph.outputs:
            if output.updates is not None:
                inputs[output.updates][...] = found.pop(output.name)
        return found

    return run


def run(folder: Path | None, plan: TrainingPlan | None = None, **given: Any) -> TrainingResult:
    settings: dict[str, Any] = {
        "compile": interpreted,
        "program": SOURCE.text,
        "options": Options(checkpoint_steps=3, report=False),
    }
    dataset = given.pop("dataset", None) or points()
    return train(plan or small_plan(), dataset, folder=folder, **{**settings, **given})


if __name__ == "__main__":
    result = run(Path(sys.argv[1]), small_plan(epochs=int(sys.argv[2])), resume=True)
    print(result.steps)
