"""Checkpoints: everything by which a run continues with the same bits.

A checkpoint is one safetensors file, `checkpoint/<step>.safetensors`: all variables, and in its
metadata the position of the run and a checksum over both. The two latest are kept. Random numbers
need no saved state, because they follow from (seed, step, place in the program).
"""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError
from dnnc.train.codes import fault
from dnnc.train.files import load_tensors, save_tensors, writing
from dnnc.train.variables import fingerprint

__all__ = ["Checkpoint", "Position", "latest_checkpoint", "prune_checkpoints", "save_checkpoint"]

_KEPT = 2
_NAME = re.compile(r"step-(\d+)\.safetensors")


@dataclass(slots=True)
class Position:
    """Where a run is. Nothing here depends on the clock but `seconds`.

    `epoch` counts finished epochs, `batch` the batches done in the next one, `loss_sum` is over the
    `examples` of those batches. `best` is the monitored metric at `best_epoch` (0: none yet). The
    `stop_` pair belongs to early stopping: its own best, since it asks for a minimum gain, and the
    epochs without one. `reason` is why training ended ("" while it goes on), `finished` that the
    test split was evaluated too. `log_bytes` is the length of metrics.jsonl.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    examples: int = 0
    loss_sum: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    stop_best: float | None = None
    stop_waited: int = 0
    reason: str = ""
    finished: bool = False
    log_bytes: int = 0
    seconds: float = 0.0


def save_checkpoint(
    folder: Path,
    variables: Mapping[str, np.ndarray],
    position: Position,
    identity: Mapping[str, str],
) -> None:
    """Write a checkpoint of a run whose `identity` (what may not differ on resuming) is given."""
    state = json.dumps(
        {"position": dataclasses.asdict(position), "identity": dict(identity)}, sort_keys=True
    )
    metadata = {"state": state, "checksum": _checksum(variables, state)}
    path = folder / f"step-{position.step:010d}.safetensors"
    save_tensors(path, variables, metadata)
    prune_checkpoints(folder)


def prune_checkpoints(folder: Path, above: int | None = None) -> None:
    """Delete all but the latest checkpoints, and those of a later step than `above`."""
    with writing(folder):
        steps = sorted(_steps(folder), reverse=True)
        gone = [step for step in steps if above is not None and step > above]
        for step in {*gone, *[step for step in steps if step not in gone][_KEPT:]}:
            (folder / f"step-{step:010d}.safetensors").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as read back; `skipped` tells why later ones could not be used."""

    variables: dict[str, np.ndarray]
    position: Position
    identity: dict[str, str]
    skipped: tuple[Diagnostic, ...] = ()


def latest_checkpoint(folder: Path, log_bytes: int) -> Checkpoint | None:
    """The latest whole checkpoint that a log of `log_bytes` suits; None where there never was one.

    E606 where there are checkpoints but none can be used.
    """
    skipped: list[Diagnostic] = []
    for step in sorted(_steps(folder), reverse=True):
        path = folder / f"step-{step:010d}.safetensors"
        try:
            return dataclasses.replace(_read(path, log_bytes), skipped=tuple(skipped))
        except DnnError as error:
            skipped.extend(error.diagnostics)
    if skipped:
        raise DnnError(skipped)
    return None


def _read(path: Path, log_bytes: int) -> Checkpoint:
    variables, metadata = load_tensors(path)
    state = metadata.get("state", "")
    if metadata.get("checksum") != _checksum(variables, state):
        raise fault("E606", f"{path} is damaged: its checksum does not agree")
    content: dict[str, Any] = json.loads(state)
    try:
        position = Position(**content["position"])
    except TypeError as error:
        raise fault("E606", f"{path} was written by another version of dnnc") from error
    if position.log_bytes > log_bytes:
        raise fault(
            "E606",
            f"metrics.jsonl is shorter than {path} remembers",
            help="restore the file, or start again without --resume",
        )
    return Checkpoint(variables, position, content["identity"])


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return [int(match.group(1)) for match in found if match]


def _checksum(variables: Mapping[str, np.ndarray], state: str) -> str:
    return f"{fingerprint(variables)}-{zlib.crc32(state.encode()):08x}"
