"""Batches as inputs of a program, and when a checkpoint is due."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from dnnc.diagnostics import DnnError
from dnnc.train.checkpoint import Position
from dnnc.train.feed import Feed
from dnnc.train.folder import open_folder
from dnnc.train.keeper import Keeper
from dnnc.train.result import Options
from tests.train.small_plan import F32, I64, Rows, points, small_plan, tensor


def test_fields_take_the_shape_and_type_of_the_program() -> None:
    types = {"image": tensor(F32, "batch", 1, 4, 4), "label": tensor(I64, "batch")}
    feed = Feed(points().splits["train"], types, 16, seed=0)
    batches = list(feed.in_order())
    assert len(batches) == feed.count == 7
    assert batches[0].keys() == types.keys()
    assert batches[0]["image"].shape == (16, 1, 4, 4)
    assert batches[0]["image"].dtype == np.float32
    assert batches[-1]["label"].shape == (4,)


def test_sizes_that_are_symbols_stay_as_they_are() -> None:
    rows = Rows({"image": np.zeros((5, 3, 8, 6)), "label": np.zeros(5, np.int64)})
    feed = Feed(rows, {"image": tensor(F32, "batch", 3, "h", "w")}, 2, seed=0)
    assert next(feed.in_order())["image"].shape == (2, 3, 8, 6)


def test_an_example_of_another_size_is_told() -> None:
    feed = Feed(points().splits["train"], {"image": tensor(F32, "batch", 5, 5)}, 4, seed=0)
    with pytest.raises(DnnError, match=r"E607.*`image` has the shape \[16\]"):
        next(feed.in_order())


def test_an_epoch_has_its_own_order_and_can_be_entered_in_the_middle() -> None:
    feed = Feed(points().splits["train"], {"label": tensor(I64, "batch")}, 8, seed=5)
    first = [b["label"] for b in feed.shuffled(0)]
    second = [b["label"] for b in feed.shuffled(1)]
    late = [b["label"] for b in feed.shuffled(1, skip=4)]
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(second[4:], late, strict=True))
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second))


def test_when_a_checkpoint_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with open_folder(tmp_path) as folder:
        keeper = Keeper(small_plan(), "data", folder, Options(checkpoint_seconds=30))
        keeper.start("", None, keep_earlier=False)
        assert not keeper.due(Position(step=1), epoch_end=False)
        assert keeper.due(Position(step=1), epoch_end=True)
        now[0] += 31
        assert keeper.due(Position(step=1), epoch_end=False)

        def slow() -> int:
            now[0] += 3  # a checkpoint of three seconds
            return 0

        monkeypatch.setattr(folder, "sync_log", slow)
        keeper.save({"w": np.zeros(3)}, Position(step=1))
        now[0] += 45
        assert not keeper.due(Position(step=2), epoch_end=False)
        assert not keeper.due(Position(step=2), epoch_end=True)
        now[0] += 16
        assert keeper.due(Position(step=2), epoch_end=False)


def test_steps_between_checkpoints_may_be_given(tmp_path: Path) -> None:
    with open_folder(tmp_path) as folder:
        keeper = Keeper(small_plan(), "data", folder, Options(checkpoint_steps=5))
        assert not keeper.due(Position(step=4), epoch_end=False)
        assert keeper.due(Position(step=5), epoch_end=False)
