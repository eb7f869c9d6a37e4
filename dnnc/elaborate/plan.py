"""What elaboration makes of a file: networks and jobs, ready to be compiled.

Everything here is plain data: graphs, names and settings. Nothing in it refers to the tree, except
for spans, by which errors and reports point at the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dnnc.diagnostics import Span
from dnnc.ir.graph import Graph
from dnnc.ir.types import TensorType

__all__ = ["EarlyStop", "Evaluation", "Layer", "Network", "TrainingPlan", "Variable"]


@dataclass(frozen=True, slots=True)
class Variable:
    """A parameter or a state of a network. Its name is its key in the saved file."""

    name: str
    type: TensorType  # always of constant sizes
    span: Span | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.type.elements.evaluate({})


@dataclass(frozen=True, slots=True)
class Layer:
    """One instance of a block inside a network, for reports and profiles.

    `path` is the dotted instance path ("layer_2.dense_1"), `block` the definition's name,
    `parameters` counts elements of its own parameters (not of inner layers), `output` the type of
    its first result.
    """

    path: str
    block: str
    parameters: int
    output: TensorType | None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A model with its settings fixed.

    `initial` takes the scalar `seed` (i64[]) and returns every parameter and state by name.
    `predict` takes the data inputs, parameters and states, and returns the outputs by name, as
    elaborated with `training = false`.
    """

    name: str
    settings: dict[str, Any]
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    parameters: dict[str, Variable]
    states: dict[str, Variable]
    layers: tuple[Layer, ...]
    initial: Graph
    predict: Graph
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Loss and metrics over a whole split, exactly, from sums over its batches.

    `sums` runs on each batch (data, parameters, states → partial sums, named by position).
    Sums over batches are added (`combine[name] == "add"`) or reduced by "max" or "min".
    `finish` takes the totals under the same names (role "data") and returns the metrics by name;
    its sizes named `batch` stand for the number of examples of the split: it has the scalar input
    `batch` (i64[]).
    """

    sums: Graph
    combine: dict[str, str]
    finish: Graph
    names: tuple[str, ...]  # of the metrics, "loss" first


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """Stop when `monitor` of the validation split has not improved for `patience` epochs."""

    monitor: str
    patience: int
    minimum_gain: float = 0.0
    larger_is_better: bool = False


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A `train` job.

    `step` is one training step: data inputs by field name, parameters, states (those of the
    network, and the optimizer's, named `optimizer.m/conv_1.weight`), the scalars `step` (from 1),
    `steps` (how many there will be) and `seed`, all i64[]. Its output is `loss`; all else are
    updates. `optimizer_states` gives the optimizer's own states; `initial_optimizer` (no inputs but
    parameters) returns their first values. `target` pairs the model output with the data field that
    the loss compares it with, where that is plain.
    """

    name: str  # "Digits on Scans"
    network: Network
    data: str  # name of the data block
    fields: tuple[str, ...]  # data fields that step and evaluation read
    step: Graph
    optimizer_states: dict[str, Variable]
    initial_optimizer: Graph
    evaluation: Evaluation
    epochs: int
    batch: int
    seed: int
    target: tuple[str, str] | None = None
    stop: EarlyStop | None = None
    monitor: str = "loss"
    monitor_larger: bool = False
    learning_rate: Graph | None = None  # scalars step, steps -> "lr", for the progress display
    settings: dict[str, Any] = field(default_factory=dict)  # resolved options, for the run folder
    span: Span | None = None
