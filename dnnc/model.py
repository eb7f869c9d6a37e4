"""The Python face: files become programs, and their models callables over NumPy arrays.

program = dnnc.load("digits.dnn")
net = program.model("Digits", hidden=128)
logits = net(image=images)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnc.diagnostics import Collector, Diagnostic, DnnError, Source, closest
from dnnc.elaborate.module import Module, load_module
from dnnc.elaborate.network import FieldShape, Walk, build_network, graph_of, walk_model
from dnnc.elaborate.options import TrainOptions, read_options
from dnnc.elaborate.plan import Network, TrainingPlan
from dnnc.elaborate.scope import JobScope
from dnnc.elaborate.shapes import names_in
from dnnc.elaborate.training import plan_training
from dnnc.elaborate.values import BlockValue
from dnnc.ir.graph import Graph
from dnnc.ir.interpret import interpret
from dnnc.ir.text import print_graph
from dnnc.ir.types import DType, TensorType
from dnnc.passes.pipeline import optimize
from dnnc.syntax import tree
from dnnc.syntax.parse import parse_expression, read_source

if TYPE_CHECKING:
    from dnnc.data import Dataset
    from dnnc.train.progress import Progress
    from dnnc.train.result import TrainingResult

__all__ = ["Compiled", "Job", "Model", "Program", "Trainer", "compile_graph", "load", "parse"]

Arrays = Mapping[str, np.ndarray]
Compiled = Callable[[Arrays], dict[str, np.ndarray]]


def load(path: str | Path, arrays: Mapping[str, object] | None = None) -> Program:
    """The checked program of a file; raises DnnError with every error found.

    `arrays` gives the NumPy arrays that `array("name")` stands for in data blocks.
    """
    return _checked(read_source(Path(path)), arrays)


def parse(text: str, name: str = "<text>", arrays: Mapping[str, object] | None = None) -> Program:
    """The checked program of a text; raises DnnError with every error found.

    Paths in it are relative to the folder of `name`.
    """
    return _checked(Source(name, text), arrays)


def _checked(source: Source, arrays: Mapping[str, object] | None) -> Program:
    program = Program(load_module(source), dict(arrays or {}))
    program.check()
    return program


def compile_graph(graph: Graph, threads: int | None = None) -> Compiled:
    """A graph as something to call: arrays by name in, arrays out, updates written in place.

    What has no symbolic size runs once or on scalars, and is interpreted: initial values, totals.
    """
    if not graph.symbols:
        return _Interpreted(graph)
    from dnnc.program.executable import Executable

    return Executable(optimize(graph), threads)


@dataclass(frozen=True, slots=True)
class _Interpreted:
    graph: Graph

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        results = interpret(self.graph, inputs)
        for output in self.graph.outputs:
            if output.updates is not None:
                inputs[output.updates][...] = results.pop(output.name)
        return results


@dataclass(slots=True, eq=False)
class Job:
    """One job of a file."""

    program: Program
    node: tree.Job
    _plan: TrainingPlan | None = None

    @property
    def kind(self) -> str:
        return self.node.kind

    @property
    def name(self) -> str:
        return f"{self.node.model.name} on {self.node.data.name}"

    @property
    def model(self) -> str:
        return self.node.model.name

    @property
    def data(self) -> str:
        return self.node.data.name

    def plan(self) -> TrainingPlan:
        """Graphs and options of the job; raises DnnError with every error found."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> TrainingPlan:
        node, module = self.node, self.program.module
        errors = Collector()
        if node.kind != "train":
            raise DnnError(
                Diagnostic(
                    "E408", f"`{node.kind}` jobs are not supported by this version", node.span,
                    help="remove the job, or comment it out with `#`",
                )
            )  # fmt: skip
        block = self._named(node.model, self.program.models, "E401", "model", errors)
        data = self._named(node.data, module.datasets, "E402", "data block", errors)
        options = None
        try:
            options = read_options(node, module.env)
        except DnnError as error:
            errors.add(error)
        fields: dict[str, FieldShape] = {}
        if data is not None:
            try:
                fields = self.program.fields(node.data.name)
            except DnnError as error:
                errors.add(error)
        errors.raise_if_any()
        assert block is not None
        assert options is not None
        return plan_training(
            block, {}, fields, options,
            name=self.name, data=node.data.name, env=module.env, span=node.span,
        )  # fmt: skip

    def _named(
        self, node: tree.Name, known: Mapping[str, Any], code: str, what: str, errors: Collector
    ) -> Any:
        if node.name in known:
            return known[node.name]
        near = closest(node.name, known)
        listed = ", ".join(f"`{name}`" for name in known) or "none"
        help = f"did you mean `{near}`?" if near else None
        errors.add(
            DnnError(
                Diagnostic(
                    code, f"there is no {what} `{node.name}`", node.span,
                    f"the file has {listed}", help=help,
                )
            )
        )  # fmt: skip
        return None

    def run(
        self,
        folder: Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> TrainingResult:
        """Train; `folder` keeps the run, and nothing is kept without it."""
        from dnnc.train.loop import train

        plan = self.plan()
        return train(
            plan,
            self.program.dataset(plan.data),
            compile=compile_graph,
            folder=folder,
            resume=resume,
            progress=progress,
            program=self.program.text,
        )


class Program:
    """A file: its models, data and jobs."""

    def __init__(self, module: Module, arrays: dict[str, object]) -> None:
        self.module = module
        self.arrays = arrays
        self.jobs = [Job(self, node) for node in module.jobs]
        self._fields: dict[str, dict[str, FieldShape]] = {}
        self._datasets: dict[str, Dataset] = {}

    @property
    def models(self) -> dict[str, BlockValue]:
        """Definitions of models by name."""
        return self.module.models

    @property
    def datasets(self) -> dict[str, tree.Data]:
        """Data blocks by name."""
        return self.module.datasets

    @property
    def constants(self) -> dict[str, Any]:
        return self.module.constants()

    @property
    def folder(self) -> Path:
        """Where relative paths of the file start."""
        return self.module.folder

    @property
    def text(self) -> str:
        """The texts of the file and of all that it imports."""
        first, *imported = self.module.sources
        parts = [first.text]
        parts += [f"\n# --- imported: {s.name} ---\n{s.text}" for s in imported]
        return "".join(parts)

    def check(self) -> None:
        """Check every model, data block and job; raises DnnError with every error found."""
        errors = Collector()
        for job in self.jobs:
            try:
                job.plan()
            except DnnError as error:
                errors.add(error)
        used = {job.model for job in self.jobs}
        for name, block in self.models.items():
            if name not in used and all(s.default is not None for s in block.definition.settings):
                self._check_model(block, errors)
        used_data = {job.data for job in self.jobs}
        for name in self.datasets:
            if name not in used_data:
                try:
                    self.fields(name)
                except DnnError as error:
                    errors.add(error)
        errors.raise_if_any()

    def _check_model(self, block: BlockValue, errors: Collector) -> None:
        for training in (True, False):
            try:
                walk_model(block, {}, training=training)
            except DnnError as error:
                # A size that only data or Python tells is no fault of the file.
                kept = [d for d in error.diagnostics if d.code != "E215"]
                if kept:
                    errors.add(DnnError(kept))

    def fields(self, name: str) -> dict[str, FieldShape]:
        """Element type and shape of one example, for each field of a data block."""
        if name not in self._fields:
            from dnnc.data import describe

            described = describe(
                self.datasets[name],
                constants=self.constants,
                folder=self.folder,
                arrays=self.arrays,
            )
            self._fields[name] = {
                n: FieldShape(DType(f.dtype), f.shape, f.span) for n, f in described.items()
            }
        return self._fields[name]

    def dataset(self, name: str) -> Dataset:
        """The data of a block, read once."""
        if name not in self._datasets:
            from dnnc.data import load as load_data

            self._datasets[name] = load_data(
                self.datasets[name],
                constants=self.constants,
                folder=self.folder,
                arrays=self.arrays,
            )
        return self._datasets[name]

    def model(
        self, name: str, seed: int = 0, dtype: str = "f32", threads: int | None = None,
        **settings: Any,
    ) -> Model:  # fmt: skip
        """A model with weights initialized from `seed`.

        `settings` override the model's own, or fix named sizes of its inputs (`h=28`). `dtype` is
        "f32" or "f64". Raises DnnError.
        """
        if name not in self.models:
            near = closest(name, self.models)
            help = f"did you mean `{near}`?" if near else None
            raise DnnError(Diagnostic("E401", f"there is no model `{name}`", help=help))
        return Model(self.models[name], self, settings, seed, dtype, threads)

    def run(
        self,
        folder: str | Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> list[TrainingResult]:
        """Do every job of the file in order, each in a folder of its own.

        `folder` is where runs are kept: `runs/<file>` unless given. Raises DnnError.
        """
        base = Path(folder) if folder is not None else Path("runs") / self.stem
        results = []
        for job in self.jobs:
            place = base if len(self.jobs) == 1 else base / f"{job.kind}-{job.model}"
            results.append(job.run(place, resume=resume, progress=progress))
        return results

    @property
    def stem(self) -> str:
        """Name of the file without folder and ending."""
        return Path(self.module.source.name).stem.strip("<>") or "program"


class Model:
    """A network and its weights.

    `parameters` and `states` map names to NumPy arrays; assigning into them changes the network.
    """

    def __init__(
        self,
        block: BlockValue,
        program: Program,
        settings: dict[str, Any],
        seed: int,
        dtype: str,
        threads: int | None,
    ) -> None:
        free = _free_sizes(block.definition)
        self.program, self.block, self.seed, self.threads = program, block, seed, threads
        self.dtype = DType(dtype)
        if not self.dtype.is_float:
            raise ValueError(f"dtype is f32 or f64, got {dtype}")
        self.sizes = {n: int(v) for n, v in settings.items() if n in free}
        self.settings = {n: v for n, v in settings.items() if n not in free}
        walk = self._walk(training=False)
        self.network: Network = build_network(walk)
        initial = interpret(self.network.initial, {"seed": np.array(seed, np.int64)})
        self.variables: dict[str, np.ndarray] = {n: _aligned(a) for n, a in initial.items()}
        self._predict: Compiled | None = None
        self._compiled: dict[Any, tuple[Graph, Compiled]] = {}

    def _walk(self, training: bool, fields: Mapping[str, FieldShape] | None = None) -> Walk:
        return walk_model(
            self.block,
            self.settings,
            training=training,
            dtype=self.dtype,
            sizes=self.sizes,
            fields=fields,
        )

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Trained arrays by name."""
        return {n: self.variables[n] for n in self.network.parameters}

    @property
    def states(self) -> dict[str, np.ndarray]:
        """Running statistics and the like, by name."""
        return {n: self.variables[n] for n in self.network.states}

    def __call__(self, **inputs: Any) -> Any:
        """Outputs for inputs: the array where there is one output, else a dict by name.

        Raises DnnError where an input is missing or does not fit.
        """
        graph = self.network.predict
        if self._predict is None:
            self._predict = compile_graph(graph, self.threads)
        arrays = _fitted(graph, inputs)
        results = self._predict({**arrays, **self.variables, **_scalars(graph, self.seed)})
        return next(iter(results.values())) if len(results) == 1 else results

    def value_and_grad(
        self, loss: str, *, training: bool = True, **inputs: Any
    ) -> tuple[float, dict[str, np.ndarray]]:
        """A loss, and its gradient for each parameter by name. Raises DnnError."""
        fields = _field_shapes(inputs)
        key = ("gradients", loss, training, tuple((n, f.dtype, f.shape) for n, f in fields.items()))
        if key not in self._compiled:
            walk = self._walk(training, fields)
            job = JobScope(walk, fields)
            expression = parse_expression(Source("<loss>", loss))
            with job.scheduled():
                value = job.loss(expression)
            names = list(self.network.parameters)
            wrt = [walk.session.declared[n].value for n in names]
            slopes = job.gradients_of(value, wrt, expression.span)
            outputs = {"$loss": value.value, **dict(zip(names, slopes, strict=True))}
            graph = graph_of("gradients", walk.session, outputs, job.data)
            self._compiled[key] = (graph, compile_graph(graph, self.threads))
        graph, run = self._compiled[key]
        arrays = _fitted(graph, inputs)
        results = run({**arrays, **self.variables, **_scalars(graph, self.seed)})
        return float(results.pop("$loss")), results

    def trainer(
        self,
        loss: str,
        optimizer: str = "adam",
        clip: str | None = None,
        steps: int | None = None,
    ) -> Trainer:
        """Training step by step on arrays given from Python.

        `steps` is how many there will be, for schedules that ask.
        """
        options = TrainOptions(
            loss=parse_expression(Source("<loss>", loss)),
            optimizer=parse_expression(Source("<optimizer>", optimizer)),
            clip=parse_expression(Source("<clip>", clip)) if clip else None,
        )
        return Trainer(self, options, steps)

    def save(self, path: str | Path) -> None:
        """Write parameters and states as safetensors, atomically."""
        from dnnc.train.files import save_tensors

        metadata = {"model": self.network.name, "settings": repr(self.settings)}
        save_tensors(Path(path), self.variables, metadata)

    def load(self, path: str | Path) -> None:
        """Read parameters and states; DnnError where the file lacks one or a shape differs."""
        from dnnc.train.files import load_tensors

        tensors, _ = load_tensors(Path(path))
        problems = []
        for name, array in self.variables.items():
            given = tensors.get(name)
            if given is None:
                near = closest(name, tensors)
                problems.append(f"`{name}` is missing" + (f" (it has `{near}`)" if near else ""))
            elif given.shape != array.shape:
                problems.append(
                    f"`{name}` is {list(given.shape)}, the model has {list(array.shape)}"
                )
        if problems:
            raise DnnError(
                [Diagnostic("E413", f"{path} does not fit {self.network.name}: {problem}")
                 for problem in problems]
            )  # fmt: skip
        for name, array in self.variables.items():
            array[...] = tensors[name]

    def ir(self, after: str | None = None, backward: bool = False) -> str:
        """The program as text: as elaborated, or after a pass ("fuse" is the last).

        With `backward`, the training step of the first job that trains this model.
        """
        graph = self.network.predict
        if backward:
            jobs = [job for job in self.program.jobs if job.model == self.network.name]
            if not jobs:
                raise DnnError(
                    Diagnostic("E404", f"no job of the file trains `{self.network.name}`")
                )
            graph = jobs[0].plan().step
        return print_graph(optimize(graph, after) if after is not None else graph)


@dataclass(slots=True, eq=False)
class Trainer:
    """Trains a model on batches given from Python: one compiled call a step."""

    model: Model
    options: TrainOptions
    steps: int | None
    step_number: int = 0
    variables: dict[str, np.ndarray] = field(default_factory=dict)
    _programs: dict[Any, tuple[Graph, Compiled]] = field(default_factory=dict)

    def step(self, **inputs: Any) -> float:
        """One step of forward, backward and update; the loss before it. Raises DnnError."""
        fields = _field_shapes(inputs)
        key = tuple((n, f.dtype, f.shape) for n, f in fields.items())
        if key not in self._programs:
            self._programs[key] = self._compile(fields)
        graph, run = self._programs[key]
        self.step_number += 1
        arrays = _fitted(graph, inputs)
        scalars = _scalars(graph, self.model.seed, self.step_number, self.steps)
        results = run({**arrays, **self.variables, **scalars})
        return float(results["loss"])

    def _compile(self, fields: Mapping[str, FieldShape]) -> tuple[Graph, Compiled]:
        model = self.model
        plan = plan_training(
            model.block, model.settings, fields, self.options,
            name=model.network.name, data="<arrays>", env=model.program.module.env,
            sizes=model.sizes,
        )  # fmt: skip
        if not self.variables:
            self.variables = dict(model.variables)
            held = {i.name: model.variables[i.name] for i in plan.initial_optimizer.inputs}
            states = interpret(plan.initial_optimizer, held)
            self.variables.update({n: _aligned(a) for n, a in states.items()})
        return plan.step, compile_graph(plan.step, model.threads)


# --- arrays ---------------------------------------------------------------------------------------


def _aligned(array: np.ndarray) -> np.ndarray:
    from dnnc.train.variables import aligned

    return aligned(np.asarray(array))


def _free_sizes(definition: tree.Block) -> set[str]:
    """Names of sizes that the inputs of a model leave open."""
    settings = {s.name for s in definition.settings}
    names: set[str] = set()
    for port in definition.body:
        if isinstance(port, tree.Port) and port.direction == "in" and port.shape is not None:
            for entry in port.shape.dims:
                if isinstance(entry, tree.Dimension):
                    names.update(names_in(entry.size))
    return names - settings


def _field_shapes(inputs: Mapping[str, Any]) -> dict[str, FieldShape]:
    fields = {}
    for name, value in inputs.items():
        array = np.asarray(value)
        if array.ndim == 0:
            raise DnnError(Diagnostic("E412", f"`{name}` is a scalar; its first axis is the batch"))
        fields[name] = FieldShape(_dtype_of(name, array), array.shape[1:])
    return fields


def _dtype_of(name: str, array: np.ndarray) -> DType:
    try:
        return DType.of(array)
    except ValueError:
        pass
    if np.issubdtype(array.dtype, np.integer):
        return DType.I64
    if np.issubdtype(array.dtype, np.floating):
        return DType.F32
    raise DnnError(Diagnostic("E412", f"`{name}` is an array of {array.dtype}, not of numbers"))


def _fitted(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The data inputs of a graph as arrays of their types; DnnError where they do not fit."""
    wanted = {i.name: i.value.type for i in graph.inputs if i.role == "data"}
    problems: list[Diagnostic] = []
    arrays: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for name in inputs:
        if name not in wanted:
            near = closest(name, wanted)
            help = f"did you mean `{near}`?" if near else f"inputs: {', '.join(wanted)}"
            problems.append(Diagnostic("E412", f"there is no input `{name}`", help=help))
    for name, type_ in wanted.items():
        if name not in inputs:
            problems.append(Diagnostic("E412", f"the input `{name}: {type_}` is missing"))
            continue
        array = np.asarray(inputs[name])
        if _shape_fits(array.shape, type_, sizes):
            given = _dtype_of(name, array)
            if type_.dtype.is_integer and given.is_float:
                problems.append(
                    Diagnostic("E412", f"`{name}` is {type_}, got an array of {array.dtype}")
                )
                continue
            arrays[name] = np.ascontiguousarray(array, type_.dtype.numpy)
        else:
            shown = ", ".join(map(str, array.shape))
            problems.append(Diagnostic("E412", f"`{name}` is {type_}, got an array of [{shown}]"))
    for name, bound in graph.bounds.items():
        if name in sizes and sizes[name] > bound.evaluate(sizes):
            problems.append(
                Diagnostic(
                    "E412", f"`{name}` is at most {bound.evaluate(sizes)}, got {sizes[name]}"
                )
            )
    if problems:
        raise DnnError(problems)
    return arrays


def _shape_fits(shape: tuple[int, ...], type_: TensorType, sizes: dict[str, int]) -> bool:
    if len(shape) != type_.rank:
        return False
    for size, wanted in zip(shape, type_.shape, strict=True):
        if wanted.name is not None:
            if sizes.setdefault(wanted.name, size) != size:
                return False
        elif wanted.symbols <= sizes.keys() and wanted.evaluate(sizes) != size:
            return False
    return True


def _scalars(
    graph: Graph, seed: int, step: int = 1, steps: int | None = None
) -> dict[str, np.ndarray]:
    values = {"seed": seed, "step": step, "steps": steps}
    scalars = {}
    for item in graph.inputs:
        if item.role == "scalar":
            value = values[item.name]
            if value is None:
                raise DnnError(
                    Diagnostic("E412", "the schedule asks for the number of steps",
                               help="give it: net.trainer(..., steps=1000)")
                )  # fmt: skip
            scalars[item.name] = np.array(value, np.int64)
    return scalars
