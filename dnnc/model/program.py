"""A file as a whole: loaded, checked, and asked for its models, data and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnc.diagnostics import Collector, Diagnostic, DnnError, Source, closest
from dnnc.elaborate.module import Module, survey_module
from dnnc.elaborate.network import FieldShape, Walk, walk_model
from dnnc.elaborate.values import BlockValue
from dnnc.ir.types import DType
from dnnc.model.job import make_job
from dnnc.model.model import Model
from dnnc.syntax import tree
from dnnc.syntax.parse import read_source

if TYPE_CHECKING:
    from dnnc.data import Dataset
    from dnnc.train.progress import Progress
    from dnnc.train.result import TrainingResult

__all__ = ["Program", "checked", "load", "parse"]


def load(path: str | Path, arrays: Mapping[str, object] | None = None) -> Program:
    """The checked program of a file; raises DnnError with every error found.

    `arrays` gives the NumPy arrays that `array("name")` stands for in data blocks.
    """
    return checked(read_source(Path(path)), arrays)


def parse(text: str, name: str = "<text>", arrays: Mapping[str, object] | None = None) -> Program:
    """The checked program of a text; raises DnnError with every error found.

    Paths in it are relative to the folder of `name`.
    """
    return checked(Source(name, text), arrays)


def checked(
    source: Source, arrays: Mapping[str, object] | None = None, runs: bool = True
) -> Program:
    """The checked program of a text, of which something `runs` or which is only to be looked at;
    raises DnnError with every error found."""
    program = Program(survey_module(source), dict(arrays or {}))
    if runs:
        from dnnc.program.precompile import get_ready

        # Help for a cold start takes as long to be there as checking and making a model.
        get_ready()
    program.check()
    return program


class Program:
    """A file: its models, data and jobs."""

    def __init__(self, module: Module, arrays: dict[str, object]) -> None:
        self.module = module
        self.arrays = arrays
        self.jobs = [make_job(self, node) for node in module.jobs]
        self._fields: dict[str, dict[str, FieldShape]] = {}
        #: What checking models has elaborated, and whether they train: making one goes on from it.
        self._walks: dict[tuple[BlockValue, bool], Walk] = {}
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
        """Constants of the file by name."""
        return self.module.constants()

    @property
    def folder(self) -> Path:
        """Where relative paths of the file start."""
        return self.module.folder

    @property
    def stem(self) -> str:
        """Name of the file without folder and ending."""
        return Path(self.module.source.name).stem.strip("<>") or "program"

    @property
    def text(self) -> str:
        """The texts of the file and of all that it imports."""
        first, *imported = self.module.sources
        parts = [first.text]
        parts += [f"\n# --- imported: {s.name} ---\n{s.text}" for s in imported]
        return "".join(parts)

    def check(self) -> None:
        """Check every model, data block and job; raises DnnError with every error found."""
        errors = Collector(list(self.module.errors.diagnostics))
        for job in self.jobs:
            try:
                job.plan()
            except DnnError as error:
                errors.add(error)
        trained = {job.model for job in self.jobs if job.kind == "train"}
        for name in self.models:
            if name not in trained and (faults := self.faults_of(name)):
                errors.add(DnnError(faults))
        for name in self.datasets:
            try:
                self.fields(name)
            except DnnError as error:
                errors.add(error)
        errors.diagnostics.sort(key=_place)
        errors.raise_if_any()

    def faults_of(self, name: str) -> list[Diagnostic]:
        """What is wrong with a model by itself; nothing where a setting has to be given first."""
        block, errors = self.models[name], Collector()
        if any(setting.default is None for setting in block.definition.settings):
            return []
        for training in (True, False):
            try:
                self._walks[block, training] = walk_model(block, {}, training=training)
            except DnnError as error:
                # A size that only data or Python tells is no fault of the file.
                kept = [d for d in error.diagnostics if d.code != "E215"]
                errors.add(DnnError(kept))
        return errors.diagnostics

    def checked_walk(
        self, block: BlockValue, settings: Mapping[str, Any], training: bool
    ) -> Walk | None:
        """The elaboration of a model that checking left, where that had these settings, for one to
        take: whoever has it adds to it."""
        walk = self._walks.get((block, training))
        for name, value in settings.items():
            if walk is None or not _same(walk.settings.get(name), value):
                return None
        return self._walks.pop((block, training), None)

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

            if name not in self.datasets:
                raise _unknown("E402", "data block", name, self.datasets)
            self._datasets[name] = load_data(
                self.datasets[name],
                constants=self.constants,
                folder=self.folder,
                arrays=self.arrays,
            )
        return self._datasets[name]

    def model(
        self,
        name: str,
        /,
        *,
        seed: int = 0,
        dtype: str = "f32",
        threads: int | None = None,
        **settings: Any,
    ) -> Model:
        """A model with weights initialized from `seed`.

        `settings` override the model's own, or fix named sizes of its inputs (`h=28`); a text is an
        expression of the language (`activation="gelu"`). `dtype` is "f32" or "f64", `threads` how
        many threads compute (all cores unless given). Raises DnnError.
        """
        if name not in self.models:
            raise _unknown("E401", "model", name, self.models)
        return Model(self.models[name], self, settings, seed, dtype, threads)

    def run(
        self,
        folder: str | Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        memory: int | str | None = None,
    ) -> list[TrainingResult]:
        """Do every job of the file in order, each in a folder of its own.

        `folder` is where runs are kept: `runs/<file>` unless given. `memory` bounds the
        arena of a training step: bytes, or a text such as "200MB". Raises DnnError.
        """
        base = Path(folder) if folder is not None else Path("runs") / self.stem
        return [
            job.run(place, resume=resume, progress=progress, memory=memory)
            for job, place in zip(self.jobs, self._places(base), strict=True)
        ]

    def _places(self, base: Path) -> list[Path]:
        """A folder for each job: the base itself for one, else `train-Digits`, `train-Digits-2`."""
        if len(self.jobs) == 1:
            return [base]
        places: list[Path] = []
        for job in self.jobs:
            name = f"{job.kind}-{job.model}"
            count = sum(
                other.kind == job.kind and other.model == job.model
                for other in self.jobs[: len(places)]
            )
            places.append(base / (f"{name}-{count + 1}" if count else name))
        return places


def _same(a: object, b: object) -> bool:
    """Whether two settings are the same number or text, to the type and the sign of zero."""
    if type(a) is not type(b) or not isinstance(a, bool | int | float | str):
        return False
    return a.hex() == b.hex() if isinstance(a, float) and isinstance(b, float) else a == b


def _unknown(code: str, what: str, name: str, known: Mapping[str, Any]) -> DnnError:
    near = closest(name, known)
    listed = f"the file has {', '.join(f'`{n}`' for n in known) or 'none'}"
    help = f"did you mean `{near}`?" if near else listed
    return DnnError(Diagnostic(code, f"there is no {what} `{name}`", help=help))


def _place(diagnostic: Diagnostic) -> tuple[str, int]:
    """Errors are told in the order of the text."""
    span = diagnostic.span
    return (span.source.name, span.start) if span is not None else ("", 0)
