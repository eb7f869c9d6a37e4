"""What is kept of a run, in memory and in its folder, and what must agree when it is resumed."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from dnnc.diagnostics import Note
from dnnc.elaborate.plan import TrainingPlan
from dnnc.ir.graph import Graph
from dnnc.ir.text import print_graph
from dnnc.program.arrays import side_by_side
from dnnc.train.checkpoint import (
    Checkpoint,
    Position,
    latest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from dnnc.train.codes import fault
from dnnc.train.files import load_tensors, save_tensors, write_text
from dnnc.train.folder import RunFolder, plain
from dnnc.train.result import Options
from dnnc.train.variables import Variables, fingerprint, restore

__all__ = ["Keeper"]

#: Writing checkpoints by time takes at most one part in this many of a run.
_SHARE = 20

#: What an identity's entries are called in an error.
_NAMES = {
    "batch": "the batch size",
    "data": "the data",
    "epochs": "the number of epochs",
    "first weights": "the weights that training starts from",
    "model": "the model",
    "program": "the program",
    "seed": "the seed",
}


class Keeper:
    """Log, checkpoints and best weights of one run; on disk where there is a folder."""

    def __init__(
        self, plan: TrainingPlan, data: str, folder: RunFolder | None, options: Options
    ) -> None:
        self.plan, self.data, self.folder, self.options = plan, data, folder, options
        self.history: list[dict[str, Any]] = []
        self._best: Variables | None = None
        self._best_epoch = 0
        self._best_on_disk = 0
        self._copy: Variables = {}
        self._copied = Position()
        self._saved_at = time.perf_counter()
        self._saved_step = 0
        self._cost = 0.0
        self._identity: dict[str, str] = {}

    @property
    def path(self) -> Path | None:
        return self.folder.path if self.folder is not None else None

    # --- beginning and resuming -------------------------------------------------------------------

    def start(
        self, program: str, initial: Mapping[str, np.ndarray] | None, keep_earlier: bool
    ) -> bool:
        """Begin anew; True where an earlier run in the folder was moved away."""
        self._identity = self._make_identity(initial)
        if self.folder is None:
            return False
        moved = self.folder.start_over(keep_earlier)
        write_text(self.folder.program, program)
        write_text(self.folder.settings, json.dumps(self._settings(), indent=2) + "\n")
        return moved

    def resume(self, program: str, initial: Mapping[str, np.ndarray] | None) -> Checkpoint | None:
        """The checkpoint to go on from, the folder made ready for it; None where none is."""
        if self.folder is None:
            return None
        found = latest_checkpoint(self.folder.checkpoints, self.folder.log_bytes)
        if found is None:
            return None
        self._identity = self._make_identity(initial)
        self._require_same(found, program)
        position = found.position
        self.folder.continue_run(position.log_bytes)
        prune_checkpoints(self.folder.checkpoints, above=position.step)
        self.history = self.folder.entries()
        self._load_best(position)
        self._saved_at, self._saved_step = time.perf_counter(), position.step
        return dataclasses.replace(found, variables=side_by_side(found.variables))

    def _make_identity(self, initial: Mapping[str, np.ndarray] | None) -> dict[str, str]:
        plan = self.plan
        graphs = (
            plan.step,
            plan.network.initial,
            plan.initial_optimizer,
            plan.evaluation.sums,
            plan.evaluation.finish,
        )
        rules = repr((plan.monitor, plan.monitor_larger, plan.stop))
        return {
            "batch": str(plan.batch),
            "data": self.data,
            "epochs": str(plan.epochs),
            "first weights": "from the seed" if initial is None else fingerprint(initial),
            "model": plan.network.name,
            "program": _digest(graphs, rules),
            "seed": str(plan.seed),
        }

    def _require_same(self, found: Checkpoint, program: str) -> None:
        differ = [key for key in _NAMES if found.identity.get(key) != self._identity[key]]
        if not differ:
            return
        notes = []
        for key in differ:
            if key == "program":
                notes.extend(self._program_notes(program))
            elif key in ("batch", "epochs", "seed", "model"):
                was, now = found.identity.get(key), self._identity[key]
                notes.append(Note(f"{_NAMES[key]} was {was} and is {now}"))
        raise fault(
            "E605",
            f"{_joined([_NAMES[key] for key in differ])} changed since this run began",
            self.plan.span,
            notes=tuple(notes),
            help="run without --resume to begin anew, or undo the change",
        )

    def _program_notes(self, program: str) -> list[Note]:
        assert self.folder is not None
        try:
            before = self.folder.program.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        changes = difflib.unified_diff(before, program.splitlines(), lineterm="", n=0)
        lines = [line for line in changes if not line.startswith(("---", "+++", "@@"))]
        kinds = {"-": "it was", "+": "it is"}
        return [Note(f"{kinds[line[0]]}: {line[1:].strip()}") for line in lines[:6]]

    def _load_best(self, position: Position) -> None:
        if position.best is None:
            return
        assert self.folder is not None
        tensors, about = load_tensors(self.folder.best)
        names = {*self.plan.network.parameters, *self.plan.network.states}
        epoch = int(about.get("epoch", "0"))
        if epoch < position.best_epoch or set(tensors) != names:
            raise fault(
                "E606",
                f"{self.folder.best} does not hold the weights of epoch {position.best_epoch}",
                help="restore the file, or start again without --resume",
            )
        # A later epoch than the checkpoint's will come again, with the same bits, before the end.
        self._best, self._best_epoch, self._best_on_disk = tensors, epoch, epoch

    def _settings(self) -> dict[str, Any]:
        plan = self.plan
        content = {
            "name": plan.name,
            "model": plan.network.name,
            "model_settings": plan.network.settings,
            "training": plan.settings,
            "epochs": plan.epochs,
            "batch": plan.batch,
            "seed": plan.seed,
            "monitor": plan.monitor,
            "data": {"name": plan.data, "fingerprint": self.data},
            "identity": self._identity,
            "versions": {
                "dnnc": _version(),
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "machine": platform.platform(),
        }
        return plain(content)  # type: ignore[no-any-return]

    # --- going on ---------------------------------------------------------------------------------

    def log(self, entry: dict[str, Any]) -> None:
        """Add a line to the history and to metrics.jsonl."""
        self.history.append(plain(entry))
        if self.folder is not None:
            self.folder.log(entry)

    def snapshot(self, variables: Variables, position: Position) -> None:
        """Keep a copy in memory to look back from."""
        if self._copy:
            restore(self._copy, variables)
        else:
            self._copy = {name: array.copy() for name, array in variables.items()}
        self._copied = dataclasses.replace(position)

    def look_back(self) -> tuple[Variables, Position]:
        """The last copy."""
        return self._copy, self._copied

    def remember_best(self, variables: Variables, position: Position) -> None:
        """Keep the weights of this epoch; they go to the disk with the next checkpoint."""
        self._best = {name: array.copy() for name, array in variables.items()}
        self._best_epoch = position.epoch

    def best(self, position: Position) -> Variables | None:
        """The weights of the best epoch, None where no epoch was judged."""
        return self._best if position.best is not None else None

    def due(self, position: Position, epoch_end: bool) -> bool:
        """Whether a checkpoint should be written here."""
        every = self.options.checkpoint_steps
        if self.folder is None:
            return False
        if every is not None and position.step - self._saved_step >= every:
            return True
        since = time.perf_counter() - self._saved_at
        wanted = 0.0 if epoch_end else self.options.checkpoint_seconds
        return since >= max(wanted, _SHARE * self._cost)

    def save(self, variables: Variables, position: Position) -> None:
        """Write a checkpoint, and before it whatever it counts on: the best weights and the log."""
        if self.folder is None:
            return
        began = time.perf_counter()
        if self._best is not None and self._best_on_disk != self._best_epoch:
            self._write(self.folder.best, self._best, self._best_epoch)
            self._best_on_disk = self._best_epoch
        position.log_bytes = self.folder.sync_log()
        save_checkpoint(self.folder.checkpoints, variables, position, self._identity)
        self._saved_at, self._saved_step = time.perf_counter(), position.step
        self._cost = self._saved_at - began

    def write_weights(self, last: Variables, best: Variables | None, position: Position) -> None:
        """Write weights.safetensors, and best.safetensors where `best` is given."""
        if self.folder is None:
            return
        self._write(self.folder.weights, last, position.epoch)
        if best is not None:
            epoch = position.best_epoch or position.epoch
            self._write(self.folder.best, best, epoch)
            self._best_on_disk = epoch

    def _write(self, path: Path, variables: Variables, epoch: int) -> None:
        network = self.plan.network
        about = {
            "model": network.name,
            "settings": json.dumps(plain(network.settings), sort_keys=True),
            "epoch": str(epoch),
        }
        save_tensors(path, variables, about)


def _version() -> str:
    try:
        return metadata.version("dnnc")
    except metadata.PackageNotFoundError:
        return "not installed"


def _digest(graphs: tuple[Graph, ...], rules: str) -> str:
    text = "\n".join((*map(print_graph, graphs), rules))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _joined(names: list[str]) -> str:
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return text[0].upper() + text[1:] if text else text
