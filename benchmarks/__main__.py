"""dnnc against other frameworks on five networks, predicting and training.

    python -m benchmarks                              # everything that is installed
    python -m benchmarks --only mlp lenet-train --peers torch onnxruntime
    python -m benchmarks --json > result.json

Each framework runs in a process of its own with the same number of threads; the processes take
turns, A B C, A B C, ..., and all but one of them are stopped. All start from the same weights, and
their results must agree with dnnc's before anything is timed. The extra `benchmarks` installs the
peers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cases import Case, choose
from benchmarks.command_line import make_parser, parse
from benchmarks.frameworks import CONTENDERS, installed, version_of
from benchmarks.fresh import measure_fresh
from benchmarks.machine import describe, load
from benchmarks.processes import Process, WorkerError, running
from benchmarks.report import Report, show
from benchmarks.speed import Settings, measure_case, prepare

__all__ = ["main", "measure"]

PARTS = ("speed", "start")
#: Predictions whose start is measured, beside every training.
STARTS = ("mlp-infer-b1", "resnet20-infer-b1")


def tell(text: str) -> None:
    """Say on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


def measure(
    cases: Sequence[Case],
    peers: Sequence[str] | None = None,
    settings: Settings | None = None,
    parts: Sequence[str] = PARTS,
) -> Report:
    """Measure some cases on dnnc and on some peers, by default all that are installed.

    Raises WorkerError where dnnc itself fails.
    """
    settings = settings or Settings()
    report = Report(describe(), settings.threads)
    names = _taking_part(report, peers)
    report.loads.append(load())
    exporting = ["torch"] if any(CONTENDERS[name].onnx for name in names) else []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(names, settings.threads, _lost(report)) as workers,
        running(exporting, settings.threads, _lost(report)) as exporters,
    ):
        if "dnnc" not in workers:
            raise WorkerError(report.missing["dnnc"])
        for case in cases:
            _measure(case, workers, exporters.get("torch"), Path(folder), settings, parts, report)
    report.loads.append(load())
    return report


def _lost(report: Report) -> Callable[[str, str], None]:
    """What notes a contender that does not start."""

    def failed(name: str, reason: str) -> None:
        report.versions.pop(name, None)
        report.missing[name] = reason

    return failed


def _taking_part(report: Report, peers: Sequence[str] | None) -> list[str]:
    """Names of the contenders that can run; the others are noted as missing."""
    names = []
    for name, contender in CONTENDERS.items():
        if not contender.own and peers is not None and name not in peers:
            continue
        if (lacking := installed(contender)) is not None:
            report.missing[name] = lacking
            continue
        report.versions[name] = version_of(contender)
        names.append(name)
    return names


def _measure(
    case: Case,
    workers: dict[str, Process],
    exporter: Process | None,
    folder: Path,
    settings: Settings,
    parts: Sequence[str],
    report: Report,
) -> None:
    if "speed" in parts:
        report.speeds.append(measure_case(case, workers, exporter, folder, settings, tell))
    if "start" in parts and (case.mode == "train" or case.name in STARTS):
        request, _ = prepare(case, workers, exporter, folder)
        names = [name for name in workers if name != "dnnc-bare"]
        report.starts.append(measure_fresh(case, names, request, settings.threads, tell))


def main() -> None:
    parser = make_parser("benchmarks", __doc__)
    peers = [name for name, contender in CONTENDERS.items() if not contender.own]
    parser.add_argument("--peers", nargs="*", choices=peers, metavar="PEER", help=", ".join(peers))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--repeat", type=int, default=10, help="rounds of each case")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parse(parser, choose)
    settings = Settings(threads=arguments.threads, rounds=arguments.repeat)
    try:
        report = measure(arguments.cases, arguments.peers, settings, arguments.parts)
    except WorkerError as error:
        sys.exit(f"dnnc: {error}")
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        show(report)
    if report.errors():
        sys.exit(1)


if __name__ == "__main__":
    main()
