"""Times of the cases on every framework, each in its own process, in turns: A B C, A B C, ..."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.frameworks import CONTENDERS
from benchmarks.processes import Process, WorkerError

__all__ = ["Settings", "Speed", "Timing", "disagreement", "measure_case"]

#: Largest difference of logits from dnnc's, by the largest logit; of the first loss, by the loss.
TOLERANCE = 1e-4
#: The same for losses after the first step: Adam's first steps follow signs of gradients, which
#: differ where rounding decides.
LATER_TOLERANCE = 2e-2
#: Processors that others may use before a timing is marked.
QUIET = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to measure: rounds, seconds of a round, and the fewest calls in one."""

    threads: int = 2
    rounds: int = 10
    seconds: float = 0.05
    least: int = 2


@dataclass(slots=True)
class Timing:
    """Seconds of the calls of one contender in one case; `preparing` is from weights to the first
    result."""

    preparing: float
    times: list[float] = field(default_factory=list)
    wall: float = 0.0
    others: float | None = 0.0

    @property
    def best(self) -> float:
        return min(self.times)

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def spread(self) -> float:
        """Half of the calls lie in a range of this size, relative to the median."""
        if len(self.times) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.times, n=4)
        return (third - first) / self.median

    @property
    def disturbance(self) -> float | None:
        """Processors that others used meanwhile."""
        if self.others is None or not self.wall:
            return None
        return max(0.0, self.others / self.wall)

    def add(self, answer: dict[str, Any]) -> None:
        """Take in a round."""
        self.times += answer["times"]
        self.wall += answer["wall"]
        if self.others is not None:
            self.others = None if answer["others"] is None else self.others + answer["others"]


@dataclass(slots=True)
class Speed:
    """Figures of one case: `flops` of its products, the ceiling in operations a second and that of
    registers alone, timings and errors by contender."""

    case: Case
    flops: int
    ceiling: float = 0.0
    registers: float = 0.0
    timings: dict[str, Timing] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def disturbed(self) -> bool:
        """Whether others used the processors while this was timed."""
        return any((t.disturbance or 0.0) > QUIET for t in self.timings.values())

    @property
    def own(self) -> Timing | None:
        return self.timings.get("dnnc")

    def best_peer(self) -> tuple[str, Timing] | None:
        """The fastest of the others."""
        peers = {n: t for n, t in self.timings.items() if not CONTENDERS[n].own}
        if not peers:
            return None
        name = min(peers, key=lambda n: peers[n].best)
        return name, peers[name]


def disagreement(case: Case, found: np.ndarray, wanted: np.ndarray) -> str | None:
    """In what way results differ from dnnc's by more than rounding explains; None where not."""
    if found.shape != wanted.shape:
        return f"results are {list(found.shape)}, dnnc's {list(wanted.shape)}"
    scale = np.abs(wanted).max() if case.mode == "infer" else np.abs(wanted)
    error = np.abs(found - wanted) / scale
    bound = np.full(error.shape, TOLERANCE)
    if case.mode == "train":
        bound[1:] = LATER_TOLERANCE
    # Written so that NaN disagrees.
    if (error <= bound).all():
        return None
    what = "logits" if case.mode == "infer" else "losses"
    return f"{what} differ from dnnc's by {error.max():.1e} of their size"


def prepare(
    case: Case, workers: dict[str, Process], exporter: Process | None, folder: Path
) -> tuple[dict[str, Any], int]:
    """Weights, and the network as ONNX; what requests to open the case say, and its operations."""
    request: dict[str, Any] = {"case": case.to_json(), "weights": str(folder / "weights.npz")}
    flops = workers["dnnc"].ask({"do": "weights", **request})["flops"]
    if exporter is not None and case.mode == "infer":
        request["onnx"] = str(folder / "network.onnx")
        exporter.ask({"do": "export", **request})
    return request, flops


def measure_case(
    case: Case,
    workers: dict[str, Process],
    exporter: Process | None,
    folder: Path,
    settings: Settings,
    tell: Callable[[str], None] = lambda text: None,
) -> Speed:
    """Times of a case. What a peer cannot do is noted in `errors`; WorkerError where dnnc fails."""
    tell(f"{case.name}: preparing")
    request, flops = prepare(case, workers, exporter, folder)
    speed = Speed(case, flops)
    wanted: np.ndarray | None = None
    taking_part = [n for n in workers if case.mode in CONTENDERS[n].modes]
    for name in taking_part:
        path = folder / f"{name}.npy"
        try:
            opened = workers[name].ask({"do": "open", **request, "result": str(path)})
        except WorkerError as error:
            if name == "dnnc":
                raise
            speed.errors[name] = str(error)
            continue
        found = np.load(path)
        wanted = found if wanted is None else wanted
        if (problem := disagreement(case, found, wanted)) is not None:
            speed.errors[name] = problem
            continue
        speed.timings[name] = Timing(opened["seconds"])
    tell(f"{case.name}: timing")
    _rounds(speed, workers, settings)
    for name in taking_part:
        workers[name].ask({"do": "close"})
    return speed


def _rounds(speed: Speed, workers: dict[str, Process], settings: Settings) -> None:
    ask = {"do": "round", "seconds": settings.seconds, "least": settings.least}
    for _ in range(settings.rounds):
        ceiling = workers["dnnc"].ask({"do": "ceiling"})
        speed.ceiling = max(speed.ceiling, ceiling["flops"])
        speed.registers = max(speed.registers, ceiling["registers"])
        names: Sequence[str] = list(speed.timings)
        for name in names:
            try:
                speed.timings[name].add(workers[name].ask(ask))
            except WorkerError as error:
                speed.errors[name] = str(error)
                del speed.timings[name]
