"""The machine: what it is, what else it does, and the environment of a process of few threads."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["busy_seconds", "describe", "environment", "load", "pin", "resident"]

_VARIABLES = (
    "DNNC_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NPROC",
)


def environment(threads: int) -> dict[str, str]:
    """The variables of this process, with the number of threads for every framework."""
    return {
        **os.environ,
        **dict.fromkeys(_VARIABLES, str(threads)),
        "OPENVINO_TELEMETRY": "0",
        "JAX_PLATFORMS": "cpu",
    }


def pin(threads: int) -> None:
    """Keep this process and its children to as many processors as threads.

    Frameworks that take every processor, as XLA does, then take no more than the others.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def busy_seconds() -> float | None:
    """Seconds that all processes, and other machines of the host, have used since the start of the
    processors that this process may use; None where the system does not tell."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    total = 0
    for name, *fields in map(str.split, lines):
        if name in mine:
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total / int(os.sysconf("SC_CLK_TCK"))


def load() -> float | None:
    """The mean number of processes that ran or waited in the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe() -> dict[str, str | int]:
    """Processor, number of processors that this process may use, system and Python."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": _processor(),
        "processors": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")


def resident(peak: bool = False) -> int | None:
    """Bytes of this process in memory, or the most there have been; None where not known."""
    name = "VmHWM:" if peak else "VmRSS:"
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith(name)), None)


def forget_peak() -> None:
    """Begin to look for the most memory anew, where the system can."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")
