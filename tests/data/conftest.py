"""Data blocks in a folder of their own."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnc.data import Dataset, Field, Statistics, describe, load
from dnnc.diagnostics import Diagnostic, DnnError, Source
from dnnc.syntax import tree
from dnnc.syntax.parse import parse


def parse_block(entries: str) -> tree.Data:
    """The block `data D { entries }`."""
    item = parse(Source("test.dnn", f"data D {{\n{entries}\n}}\n")).items[0]
    assert isinstance(item, tree.Data)
    return item


@dataclass(frozen=True)
class Workspace:
    """A folder for files, and blocks that read them."""

    folder: Path

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def zipped(self, name: str, content: str | bytes) -> Path:
        return self.write(
            name, gzip.compress(content.encode() if isinstance(content, str) else content)
        )

    def load(
        self,
        entries: str,
        constants: dict[str, object] | None = None,
        statistics: dict[str, Statistics] | None = None,
        **arrays: Any,
    ) -> Dataset:
        return load(
            parse_block(entries),
            constants=constants or {},
            folder=self.folder,
            arrays=arrays,
            statistics=statistics or {},
        )

    def describe(
        self, entries: str, constants: dict[str, object] | None = None, **arrays: Any
    ) -> dict[str, Field]:
        return describe(
            parse_block(entries), constants=constants or {}, folder=self.folder, arrays=arrays
        )

    def values(self, entries: str, field: str = "x", **arrays: Any) -> np.ndarray:
        """All training rows of a field; `describe` must have told its type and shape."""
        described = self.describe(entries, **arrays)[field]
        dataset = self.load(entries, **arrays)
        assert described == dataset.fields[field]
        split = dataset.splits["train"]
        values = split.take(np.arange(split.size))[field]
        assert values.shape == (split.size, *described.shape)
        assert values.flags.c_contiguous
        return values

    def faults(self, entries: str, action: str = "load", **arrays: Any) -> list[Diagnostic]:
        act: Callable[..., object] = getattr(self, action)
        with pytest.raises(DnnError) as raised:
            act(entries, **arrays)
        return raised.value.diagnostics

    def fault(self, entries: str, code: str, *needles: str, **arrays: Any) -> Diagnostic:
        """The only error, located, of a code, and with texts in its rendering."""
        diagnostics = self.faults(entries, **arrays)
        assert [d.code for d in diagnostics] == [code], "\n".join(d.render() for d in diagnostics)
        assert diagnostics[0].span is not None
        rendered = diagnostics[0].render()
        for needle in needles:
            assert needle in rendered, rendered
        return diagnostics[0]


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)
