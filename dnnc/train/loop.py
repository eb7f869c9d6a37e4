"""The training loop: steps, evaluation, early stopping, checkpoints.

A run ends with the same weights and metrics, bit for bit, whether it was broken off and resumed or
not: everything that a step depends on is in the variables and in `Position`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dnnc.diagnostics import DnnError
from dnnc.elaborate.plan import TrainingPlan
from dnnc.ir.interpret import interpret
from dnnc.train.checkpoint import Position
from dnnc.train.clock import Clock
from dnnc.train.codes import fault
from dnnc.train.evaluate import Compiled, Compiler, Metrics, evaluate
from dnnc.train.feed import Data, Feed, data_types, inputs_of
from dnnc.train.folder import RunFolder, open_folder
from dnnc.train.interrupt import TrainingInterrupted, interruptible
from dnnc.train.judge import judge
from dnnc.train.keeper import Keeper
from dnnc.train.progress import Moment, Progress, QuietProgress, RunFacts
from dnnc.train.replay import find_wrong_step
from dnnc.train.result import Options, TrainingResult
from dnnc.train.variables import Variables, first_values, first_wrong

__all__ = ["train"]

#: About as many steps of a run are logged, whatever its length.
_LOGGED_STEPS = 500


def train(
    plan: TrainingPlan,
    dataset: Data,
    *,
    compile: Compiler,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    program: str = "",
    initial: Mapping[str, np.ndarray] | None = None,
    options: Options | None = None,
) -> TrainingResult:
    """Train as `plan` says on `dataset`, whose splits must have the fields of the plan.

    `compile` makes a function of a graph: arrays by name in, arrays out, updated inputs written in
    place. Without `folder` nothing is kept on disk. With `resume` a broken run in `folder` goes on;
    where there is none, a run begins. `program` is the text for program.dnn. `initial` gives first
    weights in place of those from the seed.

    Raises DnnError of the E6xx family, TrainingInterrupted after SIGINT or SIGTERM.
    """
    progress = progress or QuietProgress()
    with ExitStack() as stack:
        stack.callback(progress.close)
        opened = stack.enter_context(open_folder(folder)) if folder is not None else None
        loop = _Loop(plan, dataset, compile, opened, progress, options or Options())
        return loop.run(resume, program, initial)


class _Loop:
    """One run, from opening its folder to its result."""

    def __init__(
        self,
        plan: TrainingPlan,
        dataset: Data,
        compile: Compiler,
        folder: RunFolder | None,
        progress: Progress,
        options: Options,
    ) -> None:
        self.plan, self.dataset, self.progress = plan, dataset, progress
        self.options = options
        self._compile = compile
        self.keeper = Keeper(plan, dataset.fingerprint, folder, options)
        readers = {"train": plan.step}
        readers["validation"] = readers["test"] = plan.evaluation.sums
        self.feeds = {
            name: Feed(dataset.splits[name], data_types(graph, plan.fields), plan.batch, plan.seed)
            for name, graph in readers.items()
            if name in dataset.splits and dataset.splits[name].size
        }
        self._check()
        self.steps = plan.epochs * self.feeds["train"].count
        self.variables: Variables = {}
        self.position = Position()
        self.scalars = {
            "step": np.zeros((), np.int64),
            "steps": np.array(self.steps, np.int64),
            "seed": np.array(plan.seed, np.int64),
        }
        self.clock = Clock()
        self.earlier_seconds = 0.0
        self._functions: dict[str, Compiled] = {}
        self._asked: Callable[[], int] = lambda: 0

    def _check(self) -> None:
        if "train" not in self.feeds:
            raise fault("E607", f"`{self.plan.data}` has no examples to train on", self.plan.span)
        if self.plan.stop is not None and "validation" not in self.feeds:
            raise fault(
                "E607",
                f"early stopping watches the validation split, but `{self.plan.data}` has none",
                self.plan.span,
                help="give `split` a share for validation, as in split = [0.8, 0.1, 0.1]",
            )

    def run(
        self, resume: bool, program: str, initial: Mapping[str, np.ndarray] | None
    ) -> TrainingResult:
        self._begin(resume, program, initial)
        if self.position.finished:
            self.progress.note("this run is finished already; nothing to do")
            return self._result(already=True)
        self.progress.start(self._facts())
        with interruptible() as self._asked:
            while not self.position.reason:
                self._epoch()
            self._finish()
        return self._result()

    # --- beginning --------------------------------------------------------------------------------

    def _begin(self, resume: bool, program: str, initial: Mapping[str, np.ndarray] | None) -> None:
        checkpoint = self.keeper.resume(program, initial) if resume else None
        if checkpoint is not None:
            for diagnostic in checkpoint.skipped:
                self.progress.note(f"{diagnostic.message}; going on from the checkpoint before it")
            self.position = checkpoint.position
            self.earlier_seconds = checkpoint.position.seconds
            self.variables = checkpoint.variables
            self.keeper.snapshot(self.variables, self.position)
            if not self.position.finished:
                self.progress.note(f"resuming after step {self.position.step} of {self.steps}")
            return
        if resume:
            self.progress.note("there is no checkpoint to resume from; starting at the beginning")
        if self.keeper.start(program, initial, keep_earlier=not resume):
            self.progress.note(
                "the earlier run in this folder was moved to its subfolder previous/"
            )
        self.progress.stage("compiling")
        self.variables = first_values(self.plan, self._compile, initial)
        self.keeper.snapshot(self.variables, self.position)

    def _facts(self) -> RunFacts:
        return RunFacts(
            name=self.plan.name,
            parameters=sum(v.size for v in self.plan.network.parameters.values()),
            examples={name: feed.part.size for name, feed in self.feeds.items()},
            epochs=self.plan.epochs,
            steps=self.steps,
            batch=self.plan.batch,
            metrics=self.plan.evaluation.names,
            folder=str(self.keeper.path) if self.keeper.path else None,
            first_step=self.position.step,
        )

    def _function(self, name: str, graph: Any) -> Compiled:
        """The compiled form of a graph, made when it is first needed."""
        if name not in self._functions:
            began = time.perf_counter()
            with self._stage("compiling"):
                self._functions[name] = self._compile(graph)
            self.clock.compiling += time.perf_counter() - began
        return self._functions[name]

    @contextmanager
    def _stage(self, text: str) -> Iterator[None]:
        self.progress.stage(text)
        yield
        self.progress.stage("")

    # --- an epoch ---------------------------------------------------------------------------------

    def _epoch(self) -> None:
        position, began = self.position, time.perf_counter()
        self._steps_of_epoch()
        self._require_finite()
        validation = self._evaluate("validation")
        position.epoch += 1
        improved = judge(self.plan, position, validation)
        if improved:
            self.keeper.remember_best(self._network_variables(), position)
        self._log(
            {
                "kind": "epoch",
                "epoch": position.epoch,
                "step": position.step,
                "train": {"loss": position.loss_sum / position.examples},
                "validation": validation,
                "improved": improved,
                "learning_rate": self._learning_rate(),
                "epoch_seconds": time.perf_counter() - began,
            }
        )
        position.batch, position.examples, position.loss_sum = 0, 0, 0.0
        self._checkpoint(epoch_end=True)

    def _steps_of_epoch(self) -> None:
        position, train = self.position, self.feeds["train"]
        if position.batch == train.count:
            return
        step = self._function("step", self.plan.step)
        inputs = inputs_of(self.plan.step, self.variables, self.scalars)
        every = max(10, self.steps // _LOGGED_STEPS)
        entered = time.perf_counter()
        for batch in train.shuffled(position.epoch, position.batch):
            self.scalars["step"][...] = position.step + 1
            loss = float(step({**inputs, **batch})["loss"])
            if not np.isfinite(loss):
                raise self._blame()
            count = len(next(iter(batch.values())))
            position.step += 1
            position.batch += 1
            position.examples += count
            position.loss_sum += loss * count
            now = time.perf_counter()
            self.clock.step(count, now - entered)
            entered = now
            if position.step % every == 0:
                self._log_step(loss)
            if now - self.clock.shown >= self.progress.interval:
                self.clock.shown = now
                self.progress.step(self._moment())
            if self._asked():
                self._interrupt()
            if position.batch < train.count:
                self._checkpoint()

    def _log_step(self, loss: float) -> None:
        position = self.position
        self._log(
            {
                "kind": "step",
                "step": position.step,
                "epoch": position.epoch + 1,
                "loss": loss,
                "learning_rate": self._learning_rate(),
            }
        )

    def _moment(self) -> Moment:
        position = self.position
        return Moment(
            step=position.step,
            epoch=position.epoch + 1,
            loss=position.loss_sum / position.examples,
            rate=self.clock.rate,
            seconds_left=self.clock.left(self.steps - position.step),
            learning_rate=self._learning_rate(),
        )

    def _learning_rate(self) -> float | None:
        """That of the step just done."""
        graph = self.plan.learning_rate
        if graph is None:
            return None
        done = {"step": np.array(self.position.step, np.int64)}
        inputs = inputs_of(graph, self.scalars, done)
        return float(next(iter(interpret(graph, inputs).values())))

    # --- evaluation -------------------------------------------------------------------------------

    def _evaluate(self, split: str, variables: Variables | None = None) -> Metrics | None:
        feed = self.feeds.get(split)
        if feed is None:
            return None
        sums = self._function("sums", self.plan.evaluation.sums)
        with self._stage({"validation": "validating", "test": "testing"}[split]):
            held = {**(variables or self.variables), **self.scalars}
            batches = self._watched(feed.in_order())
            return evaluate(self.plan.evaluation, sums, held, batches, feed.part.size)

    def _watched(self, batches: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        for batch in batches:
            if self._asked():
                self._interrupt()
            yield batch

    def _network_variables(self) -> Variables:
        network = self.plan.network
        return {name: self.variables[name] for name in (*network.parameters, *network.states)}

    def _best_variables(self) -> Variables:
        best = self.keeper.best(self.position)
        return best if best is not None else self._network_variables()

    # --- ending -----------------------------------------------------------------------------------

    def _finish(self) -> None:
        position = self.position
        best = self._best_variables()
        if position.reason == "early stop":
            waited = f"{position.stop_waited} epochs"
            self.progress.note(f"stopped early: no gain on the validation split for {waited}")
        test = self._evaluate("test", best)
        if test is not None:
            epoch = position.best_epoch or position.epoch
            self._log({"kind": "test", "epoch": epoch, "step": position.step, "test": test})
        self._log(
            {
                "kind": "end",
                "reason": position.reason,
                "compile_seconds": self.clock.compiling,
                "epoch": position.epoch,
                "step": position.step,
            }
        )
        self.keeper.write_weights(self._network_variables(), best, position)
        self._report(best)
        position.seconds = self._seconds()
        position.finished = True
        self._checkpoint(final=True)

    def _report(self, best: Variables) -> None:
        if self.keeper.folder is None or not self.options.report:
            return
        # Imported here, because only a run that has ended needs it.
        from dnnc.train.report import write_report

        with self._stage("writing the report"):
            write_report(
                self.keeper.folder,
                self.plan,
                self.dataset,
                compile=self._compile,
                variables=best,
                seconds=self._seconds(),
            )

    def _interrupt(self) -> None:
        self._require_finite()
        self._checkpoint(final=True)
        path = self.keeper.path
        if path is not None:
            self.keeper.write_weights(self._network_variables(), None, self.position)
            self.progress.note(
                f"interrupted after step {self.position.step}, which a checkpoint holds"
            )
        raise TrainingInterrupted(self._asked(), path)

    def _result(self, already: bool = False) -> TrainingResult:
        position = self.position
        epochs = [e for e in self.keeper.history if e["kind"] == "epoch"]
        tests = [e for e in self.keeper.history if e["kind"] == "test"]
        best = next((e for e in epochs if e["epoch"] == position.best_epoch), None)
        return TrainingResult(
            name=self.plan.name,
            folder=self.keeper.path,
            reason=position.reason,
            epochs=position.epoch,
            steps=position.step,
            best_epoch=position.best_epoch,
            train_loss=epochs[-1]["train"]["loss"] if epochs else float("nan"),
            validation=best["validation"] if best else None,
            test=tests[-1]["test"] if tests else None,
            variables=self._best_variables(),
            last=self._network_variables(),
            seconds=self._seconds(),
            history=tuple(self.keeper.history),
            already_finished=already,
        )

    # --- keeping ----------------------------------------------------------------------------------

    def _seconds(self) -> float:
        """Time spent on the run, in this process and before."""
        if self.position.finished:
            return self.position.seconds
        return self.earlier_seconds + self.clock.seconds

    def _log(self, entry: dict[str, Any]) -> None:
        entry["seconds"] = self._seconds()
        self.keeper.log(entry)
        self.progress.record(entry)

    def _checkpoint(self, epoch_end: bool = False, final: bool = False) -> None:
        """Write a checkpoint if one is due, and keep a copy in memory to look back from."""
        due = final or self.keeper.due(self.position, epoch_end)
        if not due and not epoch_end:
            return
        self._require_finite()
        self.position.seconds = self._seconds()
        if due:
            self.keeper.save(self.variables, self.position)
        self.keeper.snapshot(self.variables, self.position)

    def _require_finite(self) -> None:
        if first_wrong(self.variables, self.plan.network.parameters) is not None:
            raise self._blame()

    def _blame(self) -> DnnError:
        step = self._function("step", self.plan.step)
        feed, start = self.feeds["train"], self.keeper.look_back()
        return find_wrong_step(
            self.plan, step, feed, self.variables, self.scalars, start, self.position.step
        )
