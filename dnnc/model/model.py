"""A network with its weights, called on NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError, Source
from dnnc.elaborate.network import FieldShape, Walk, build_network, walk_model
from dnnc.elaborate.options import TrainOptions
from dnnc.elaborate.plan import Network
from dnnc.elaborate.values import BlockValue
from dnnc.ir.interpret import interpret
from dnnc.ir.text import print_graph
from dnnc.ir.types import DType
from dnnc.model.arena import Arena
from dnnc.model.arguments import Arguments
from dnnc.model.compiled import Predictor, Runner, Runners, bytes_in
from dnnc.model.losses import LOSS, gradients_graph
from dnnc.model.settings import element_type, split_settings
from dnnc.model.trainer import Trainer
from dnnc.model.variants import Variants, examples
from dnnc.model.weights import OPTIMIZER, Weights, read_weights, save_weights
from dnnc.passes.pipeline import optimize
from dnnc.syntax.parse import parse_expression

if TYPE_CHECKING:
    from dnnc.model.program import Program

__all__ = ["Model"]


class Model:
    """A network and its weights. Made by `Program.model`.

    `parameters` and `states` map names to read-only NumPy arrays, and `variables` is both. They
    are changed by assignment: `net.parameters["head.offset"] = values`. Models may be called from
    several threads.
    """

    def __init__(
        self,
        block: BlockValue,
        program: Program,
        given: Mapping[str, Any],
        seed: int,
        dtype: str,
        threads: int | None,
    ) -> None:
        if threads is not None and threads < 1:
            raise DnnError(Diagnostic("E412", f"`threads` is at least 1, got {threads}"))
        self.program, self.block, self.seed, self.threads = program, block, seed, threads
        self.dtype = element_type(dtype)
        self.settings, self.sizes = split_settings(block, given)
        self.network: Network = build_network(self.walk(training=False))
        self._require_plain_sizes()
        initial = interpret(self.network.initial, {"seed": np.array(seed, np.int64)})
        self.arena = Arena(initial)
        self.variables = self._weights(self.arena.arrays)
        self.parameters = self._weights(self.network.parameters)
        self.states = self._weights(self.network.states)
        self._predict: Predictor | None = None
        self._predictors = Variants(
            lambda: Predictor(self.network.predict, self.arena, self.threads)
        )
        self._runners = self.runners()

    def _weights(self, names: Iterable[str]) -> Weights:
        return Weights(self.arena.arrays, names, self.arena.note_change)

    def _require_plain_sizes(self) -> None:
        """Programs read a size from an axis that has no other size in it."""
        shapes = [type_.shape for type_ in self.network.inputs.values()]
        plain = {size.name for shape in shapes for size in shape}
        unknown = sorted(self.network.predict.symbols - plain)
        if unknown:
            name = unknown[0]
            raise DnnError(
                Diagnostic(
                    "E412",
                    f"the size `{name}` is not the size of an axis of an input",
                    self.block.definition.name_span,
                    help=f'give it: program.model("{self.block.name}", {name}=...)',
                )
            )

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        count = sum(variable.size for variable in self.network.parameters.values())
        return f"<model {self.network.name}({settings}), {count:,} parameters, {self.dtype}>"

    def walk(self, training: bool, fields: Mapping[str, FieldShape] | None = None) -> Walk:
        """The model elaborated with its settings, its sizes and those of `fields`."""
        if not self.sizes and not fields and self.dtype is DType.F32:
            checked = self.program.checked_walk(self.block, self.settings, training)
            if checked is not None:
                return checked
        return walk_model(
            self.block,
            self.settings,
            training=training,
            dtype=self.dtype,
            sizes=self.sizes,
            fields=fields,
        )

    def runners(self) -> Runners:
        """A place for programs on this model's inputs and further arrays."""
        return Runners(Arguments(self.network.predict), self.dtype)

    def labels(self, fields: Mapping[str, FieldShape]) -> list[str]:
        """Those of the fields that are no inputs of the network."""
        return [name for name in fields if name not in self.network.inputs]

    def __call__(self, /, **inputs: Any) -> Any:
        """Outputs for inputs: the array where there is one output, else a dict by name.

        Raises DnnError (E412) where an input is missing or does not fit.
        """
        results = (self._predict or self._compiled(inputs))(inputs, {"seed": self.seed, "step": 1})
        return next(iter(results.values())) if len(results) == 1 else results

    def _compiled(self, inputs: Mapping[str, Any]) -> Predictor:
        found = self._predictors.find(examples(inputs, next(iter(self.network.inputs), "")))
        self._predict = self._predictors.only
        return found

    def value_and_grad(
        self, loss: str, /, *, training: bool = True, **inputs: Any
    ) -> tuple[float, dict[str, np.ndarray]]:
        """A loss, and its gradient for each parameter by name.

        `loss` is an expression of the model's names and those of `inputs`. With `training` the
        model is that which trains, with dropout and statistics of the batch. Raises DnnError.
        """

        def compiled(fields: Mapping[str, FieldShape]) -> Runner:
            expression = parse_expression(Source("<loss>", loss))
            graph = gradients_graph(self.walk(training, fields), fields, expression)
            return Runner(graph, self.arena.arrays, self.threads, self.labels(fields))

        runner = self._runners.find((loss, training), inputs, compiled)
        results = runner(inputs, {"seed": self.seed, "step": 1, "steps": 1})
        return float(results.pop(LOSS)), results

    def trainer(
        self,
        loss: str,
        optimizer: str = "adam",
        clip: str | None = None,
        steps: int | None = None,
        seed: int | None = None,
        memory: int | str | None = None,
    ) -> Trainer:
        """Training step by step on arrays given from Python.

        `steps` is how many there will be, for schedules that ask; `seed` that of dropout and the
        like, the model's own unless given. `memory` bounds the memory of intermediate values
        (bytes, or "200MB"): some are computed again rather than kept, with the same results.

        Raises DnnError where the expressions are at fault; a step does (E704) where the budget is
        too small.
        """
        options = TrainOptions(
            loss=parse_expression(Source("<loss>", loss)),
            optimizer=parse_expression(Source("<optimizer>", optimizer)),
            clip=parse_expression(Source("<clip>", clip)) if clip is not None else None,
            dtype=self.dtype,
        )
        most = bytes_in(memory) if isinstance(memory, str) else memory
        return Trainer(self, options, steps, self.seed if seed is None else seed, most)

    def save(self, path: str | Path) -> None:
        """Write parameters and states as safetensors, atomically; DnnError where that fails."""
        about = {"settings": self.network.settings}
        save_weights(Path(path), self.variables, self.network.name, about)

    def load(self, path: str | Path) -> None:
        """Read parameters and states from a file of `save`, of a trainer or of a run.

        Raises DnnError (E413) and changes nothing where the file does not fit the network.
        """
        saved = read_weights(Path(path))
        saved.fill(self.arena.arrays, self.network.name, beyond=OPTIMIZER)
        self.arena.note_change()

    def ir(self, after: str | None = None, backward: bool = False) -> str:
        """The program as text: as elaborated, or after a pass ("fuse" is the last).

        With `backward`, the training step of the first job that trains this model, with the
        settings of this network. Raises DnnError (E404, E701) where there is no such job or pass.
        """
        graph = self.network.predict
        if backward:
            job = next((j for j in self.program.jobs if j.trains(self.network.name)), None)
            if job is None:
                raise DnnError(
                    Diagnostic("E404", f"no job of the file trains `{self.network.name}`")
                )
            options = dataclasses.replace(job.options(), dtype=self.dtype)
            graph = job.plan_with(options, self.settings, self.sizes).step
        return print_graph(optimize(graph, after) if after is not None else graph)
