"""The arrays of a network by name: read, assigned, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError, closest

__all__ = ["OPTIMIZER", "Saved", "Weights", "read_weights", "save_weights"]

#: Names of an optimizer's states begin so; a network does not need them.
OPTIMIZER = "optimizer."


class Weights(Mapping[str, np.ndarray]):
    """Arrays that programs hold, by name.

    They show what the network holds at any time, and are read-only: programs compute with values
    made of them, which have to be made anew. `weights[name] = values` copies into the array: the
    shapes must be equal.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        names: Iterable[str],
        note_change: Callable[[], None],
    ) -> None:
        self._arrays = {name: arrays[name] for name in names}
        self._views = {name: _read_only(array) for name, array in self._arrays.items()}
        self._note_change = note_change

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._views[name]
        except KeyError:
            near = closest(name, self._views) if isinstance(name, str) else None
            raise KeyError(f"{name}; did you mean {near}?" if near else name) from None

    def __setitem__(self, name: str, values: Any) -> None:
        view, given = self[name], np.asarray(values)
        if given is view:
            return
        if problem := _misfit(name, view, given):
            raise DnnError(Diagnostic("E412", problem))
        self._arrays[name][...] = given
        self._note_change()

    def __contains__(self, name: object) -> bool:
        return name in self._views

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        lines = [f"  {n}: {a.dtype}{list(a.shape)}" for n, a in self._views.items()]
        return "\n".join(["Weights", *lines])


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def save_weights(
    path: Path, arrays: Mapping[str, np.ndarray], model: str, about: Mapping[str, Any]
) -> None:
    """Write a safetensors file, whole or not at all; DnnError (E604) where that fails.

    Its metadata are the name of the model, and what `about` holds as JSON.
    """
    from dnnc.train.files import save_tensors
    from dnnc.train.folder import plain

    texts = {key: json.dumps(plain(value), sort_keys=True) for key, value in about.items()}
    try:
        save_tensors(path, arrays, {"model": model, **texts})
    except DnnError as error:
        # The remedies it offers are those of a run.
        raise DnnError([Diagnostic(d.code, d.message) for d in error.diagnostics]) from None


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file of weights holds: arrays by name, and its metadata."""

    path: Path
    tensors: dict[str, np.ndarray]
    about: dict[str, str]

    def fill(self, arrays: Mapping[str, np.ndarray], model: str, beyond: str | None = None) -> None:
        """Copy into `arrays`.

        Raises DnnError (E413) and changes nothing where an array is missing or has another shape,
        or where there is one too many whose name does not begin with `beyond`.
        """
        problems = _misfits(self.tensors, arrays, beyond)
        if problems:
            help = _saved_from(self.about)
            raise DnnError(
                [
                    Diagnostic("E413", f"{self.path} does not fit `{model}`: {problem}", help=help)
                    for problem in problems
                ]
            )
        for name, array in arrays.items():
            array[...] = self.tensors[name]


def read_weights(path: Path) -> Saved:
    """A safetensors file; DnnError (E413) where it is missing or damaged."""
    from dnnc.train.files import load_tensors

    if path.is_dir():
        raise DnnError(Diagnostic("E413", f"{path} is a folder, not a file of weights"))
    try:
        return Saved(path, *load_tensors(path))
    except DnnError as error:
        raise DnnError([Diagnostic("E413", d.message) for d in error.diagnostics]) from None
    except TypeError as error:
        # Element types that NumPy does not have, such as bfloat16.
        raise DnnError(Diagnostic("E413", f"{path} cannot be read: {error}")) from None


def _misfits(
    tensors: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], beyond: str | None
) -> list[str]:
    problems = []
    for name, array in arrays.items():
        if name in tensors:
            if problem := _misfit(name, array, tensors[name]):
                problems.append(problem)
            continue
        near = closest(name, tensors.keys() - arrays.keys())
        problems.append(f"`{name}` is missing" + (f" (it has `{near}`)" if near else ""))
    for name in tensors:
        if name not in arrays and not (beyond and name.startswith(beyond)):
            problems.append(f"it holds `{name}`, which the model does not have")
    return problems


def _misfit(name: str, array: np.ndarray, given: np.ndarray) -> str | None:
    """Why values cannot be copied into an array, in words."""
    if given.shape != array.shape:
        return f"`{name}` is {list(array.shape)}, got {list(given.shape)}"
    if not np.can_cast(given.dtype, array.dtype, "same_kind"):
        return f"`{name}` is {array.dtype}, got {given.dtype}"
    return None


def _saved_from(about: Mapping[str, str]) -> str | None:
    """What a file says of the model that it was saved from."""
    if "model" not in about:
        return None
    try:
        settings = json.loads(about.get("settings", "{}"))
    except ValueError:
        settings = {}
    listed = ", ".join(f"{k} = {json.dumps(v)}" for k, v in settings.items())
    return f"it was saved from `{about['model']}`" + (f" with {listed}" if listed else "")
