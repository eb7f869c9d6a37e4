"""Measuring the choices that a model's programs depend on, so that later programs take the best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dnnc.elaborate.plan import Network, TrainingPlan
from dnnc.passes.pipeline import optimize, optimize_split
from dnnc.tuning import tables
from dnnc.tuning.decisions import Question, asked, batch

if TYPE_CHECKING:
    from dnnc.model.program import Program

__all__ = ["Timing", "questions", "questions_of", "settle", "table_of", "tune"]

#: Another candidate than the rule of thumb's is taken where it saves at least this share.
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Timing:
    """One decision in one case: what was chosen for that amount, and why.

    `seconds` is what each candidate took; empty where the choice was known before. `usual` is that
    of the rule of thumb.
    """

    decision: str
    case: str
    amount: int
    choice: int
    usual: int
    seconds: dict[int, float]


def tune(
    program: Program,
    model: str,
    batches: Collection[int] = (1,),
    *,
    force: bool = False,
    threads: int | None = None,
    seconds: float = 0.5,
    report: Callable[[Timing], None] | None = None,
) -> list[Timing]:
    """Measure what is not known about the programs of a model, and keep it in the cache.

    Those are its predictions for batches of the given sizes and, where a job trains it, for those
    of the job, and the training step. With `force`, what is known is measured again. Each decision
    is timed for about `seconds`; `report` is told of each as soon as it is taken. Programs that are
    compiled from then on take the choices; those compiled already stay as they are.

    Raises DnnError where the model is at fault, and OSError where the cache cannot be written.
    """
    found = questions(program, model, batches)
    return settle(found, force=force, threads=threads, seconds=seconds, report=report)


def settle(
    found: Iterable[tuple[Question, int]],
    *,
    force: bool = False,
    threads: int | None = None,
    seconds: float = 0.5,
    report: Callable[[Timing], None] | None = None,
) -> list[Timing]:
    """Measure what is not known of these questions and amounts, and keep it; see `tune`."""
    taken = []
    for question, amount in found:
        timing = _known(question, amount) if not force else None
        if timing is None:
            timing = _timed(question, amount, threads, seconds)
            tables.store(table_of([timing]))
        taken.append(timing)
        if report is not None:
            report(timing)
    return taken


def questions(program: Program, model: str, batches: Collection[int]) -> list[tuple[Question, int]]:
    """What the programs of a model have to decide, and for which amounts; each once."""
    return questions_of(_programs(program, model, batches))


def questions_of(
    programs: Iterable[tuple[int, Callable[[], object]]],
) -> list[tuple[Question, int]]:
    """What programs have to decide, given sizes of batches with what runs the passes for them."""
    found: dict[tuple[str, str, int], tuple[Question, int]] = {}
    for size, run in programs:
        with batch(size), asked() as noted:
            run()
            for question in noted:
                if (count := question.count) is not None:
                    key = question.decision.name, question.key, count
                    found.setdefault(key, (question, count))
    return list(found.values())


def table_of(timings: Iterable[Timing]) -> tables.Table:
    """The choices alone."""
    table: tables.Table = {}
    for timing in timings:
        found = {timing.decision: {timing.case: {timing.amount: timing.choice}}}
        table = tables.merged(table, found)
    return table


def _programs(
    program: Program, model: str, batches: Collection[int]
) -> Iterator[tuple[int, Callable[[], object]]]:
    """Sizes of batches with what runs the passes on a program for them."""
    plan = _training(program, model)
    network = plan.network if plan is not None else program.model(model).network
    sizes = sorted({*batches, *([plan.batch] if plan is not None else [])})
    for size in sizes:
        yield size, _predicting(network)
    if plan is not None:
        step = plan.step
        yield plan.batch, lambda: optimize(step)


def _predicting(network: Network) -> Callable[[], object]:
    return lambda: optimize_split(network.predict)


def _training(program: Program, model: str) -> TrainingPlan | None:
    """The plan of the first job that trains the model; None where there is none."""
    jobs = (job for job in program.jobs if job.trains(model))
    return next((job.plan() for job in jobs), None)


def _known(question: Question, amount: int) -> Timing | None:
    """The choice that was measured for exactly this amount before; None where none was."""
    decision, case = question.decision, question.case
    cases = tables.measured().get(decision.name, {})
    choice = cases.get(question.key, {}).get(amount)
    if choice is None or choice not in decision.candidates(case):
        return None
    return Timing(decision.name, question.key, amount, choice, decision.rule(case), {})


def _timed(question: Question, amount: int, threads: int | None, seconds: float) -> Timing:
    from dnnc.program.tuner import measure

    decision, case = question.decision, question.case
    times = measure(decision, case, amount, threads, seconds)
    usual = decision.rule(case)
    fastest = min(times, key=lambda candidate: times[candidate])
    choice = fastest if times[fastest] <= (1 - MARGIN) * times[usual] else usual
    return Timing(decision.name, question.key, amount, choice, usual, times)
