"""Training runs: the loop, the run folder, progress and the report."""

from dnnc.train.interrupt import TrainingInterrupted
from dnnc.train.loop import train
from dnnc.train.progress import Progress, choose_progress
from dnnc.train.result import Options, TrainingResult

__all__ = [
    "Options",
    "Progress",
    "TrainingInterrupted",
    "TrainingResult",
    "choose_progress",
    "train",
]
