"""The lock of a run folder, and files that follow from their content alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dnnc.diagnostics import DnnError
from dnnc.train.files import load_tensors, save_tensors
from dnnc.train.folder import open_folder, plain
from tests.train.small_plan import run


def test_a_folder_in_use_is_an_error(tmp_path: Path) -> None:
    with open_folder(tmp_path), pytest.raises(DnnError, match="E603") as caught:
        run(tmp_path)
    assert f"by process {os.getpid()}" in str(caught.value)
    run(tmp_path)


def test_a_folder_in_use_by_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dnnc.train.folder import open_folder\n"
        "with open_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DnnError, match=f"E603.*process {process.pid}"):
            run(tmp_path)
        process.kill()
    run(tmp_path)


def test_a_lock_left_by_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1\n")
    run(tmp_path)


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.weight": np.array(2.5),
        "flags": np.array([True, False, True]),
        "small": np.array([-3, 5], np.int8),
        "empty": np.zeros((0, 4), np.int64),
        "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    }
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors, {"model": "M", "ä": "ö"})
    for found in (load_tensors(path)[0], load_file(path)):
        assert found.keys() == tensors.keys()
        for name, array in tensors.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
    assert load_tensors(path)[1] == {"model": "M", "ä": "ö"}
    first = path.read_bytes()
    save_tensors(path, dict(reversed(tensors.items())), {"ä": "ö", "model": "M"})
    assert path.read_bytes() == first


def test_plain_values_are_json() -> None:
    value = {"a": np.float32(1.5), "b": [float("nan"), np.arange(2)], 3: Path("x")}
    assert json.dumps(plain(value)) == '{"a": 1.5, "b": [null, [0, 1]], "3": "x"}'
