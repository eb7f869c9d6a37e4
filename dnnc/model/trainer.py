"""Training step by step, on batches given from Python."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError
from dnnc.elaborate.network import FieldShape, Walk
from dnnc.elaborate.options import TrainOptions
from dnnc.ir.interpret import interpret
from dnnc.model.compiled import MemoryBudget, Runner
from dnnc.model.losses import LOSS, first_states, step_graph
from dnnc.model.weights import Weights, read_weights, save_weights
from dnnc.program.arrays import side_by_side

if TYPE_CHECKING:
    from dnnc.model.model import Model

__all__ = ["Trainer"]


class Trainer:
    """Trains a model: one compiled call a step. Made by `Model.trainer`.

    `variables` are the model's own and the optimizer's states (`optimizer.m/conv_1.weight`),
    `step_number` counts the steps done. The two are all that a step depends on besides its data,
    and may be assigned to go on from an earlier point; `save` and `load` keep them in a file.
    """

    def __init__(
        self,
        model: Model,
        options: TrainOptions,
        steps: int | None,
        seed: int,
        memory: int | None = None,
    ) -> None:
        self.model, self.options, self.steps, self.seed = model, options, steps, seed
        self.memory = memory
        self.step_number = 0
        #: The model elaborated, for the first program, if it fits: that adds to it.
        self._walk: Walk | None = model.walk(training=True)
        graph = first_states(self._walk, options)
        held = model.arena.arrays
        states = interpret(graph, {i.name: held[i.name] for i in graph.inputs})
        self._arrays = {**held, **side_by_side(states)}
        self.variables = Weights(self._arrays, self._arrays, model.arena.note_change)
        self._runners = model.runners()
        self._lock = threading.Lock()

    def step(self, /, **inputs: Any) -> float:
        """One step of forward, backward and update; the loss before the update.

        Takes an array for each input of the model and each field that the loss reads, with as many
        examples as there are. One program is compiled for each shape of an example: batches may
        differ in size, but sequences that differ in length are compiled for each length.

        Raises DnnError where the arrays do not fit, and then changes nothing.
        """
        with self._lock:
            # A budget is for batches of one size, so each size has a program of its own.
            batch = self._batch(inputs) if self.memory is not None else None
            runner = self._runners.find(batch, inputs, lambda fields: self._compiled(fields, batch))
            number = self.step_number + 1
            try:
                results = runner(inputs, {"seed": self.seed, "step": number, "steps": self.steps})
            finally:
                self.model.arena.note_change()
            self.step_number = number
            return float(results[LOSS])

    @staticmethod
    def _batch(inputs: Mapping[str, Any]) -> int:
        return max((len(x) for x in inputs.values() if np.ndim(x)), default=1)

    def _compiled(self, fields: Mapping[str, FieldShape], batch: int | None) -> Runner:
        model, walk = self.model, self._walk
        self._walk = None
        if walk is None or not walk.has_sizes_of(fields):
            walk = model.walk(training=True, fields=fields)
        graph = step_graph(walk, fields, self.options)
        memory = None
        if self.memory is not None and batch is not None:
            memory = MemoryBudget(self.memory, batch)
        return Runner(graph, self._arrays, model.threads, model.labels(fields), memory)

    def save(self, path: str | Path) -> None:
        """Write `variables` and `step_number` as safetensors, atomically."""
        network = self.model.network
        about = {"settings": network.settings, "step": self.step_number}
        save_weights(Path(path), self.variables, network.name, about)

    def load(self, path: str | Path) -> None:
        """Go on from a file that `save` wrote.

        DnnError (E413) where it does not fit, and then nothing is changed.
        """
        saved = read_weights(Path(path))
        step = saved.about.get("step", "")
        if not step.isdigit():
            raise DnnError(
                Diagnostic(
                    "E413",
                    f"{path} does not tell the step that training has reached",
                    help="it holds weights alone, which `net.load` reads",
                )
            )
        with self._lock:
            saved.fill(self._arrays, self.model.network.name)
            self.model.arena.note_change()
            self.step_number = int(step)
