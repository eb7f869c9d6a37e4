"""`dnnc predict FILE MODEL`: use what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnc.cli._inputs import read_inputs
from dnnc.cli._load import load, model_name, open_model
from dnnc.cli._options import answer, model_arguments, report_options, threads_option
from dnnc.diagnostics import Diagnostic, DnnError, register_codes

if TYPE_CHECKING:
    import numpy as np

    from dnnc.model import Model, Program

register_codes({"E907": "there are no weights to predict with"})

#: Examples computed at a time, which bounds the memory that a prediction takes.
BATCH = 256


@click.command("predict")
@model_arguments
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="[NAME=]FILE",
    help="Values of an input (.npy), or a file to read as the model's training data were.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A saved model; the best weights of the default run folder unless given.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the results go: .npy (one output), .npz or .csv; printed unless given.",
)
@threads_option
@report_options
def command(
    file: Path,
    model: str | None,
    inputs: tuple[str, ...],
    weights: Path | None,
    output: Path | None,
    definitions: tuple[str, ...],
    json: bool,
) -> None:
    """Compute the outputs of MODEL for inputs from files.

    MODEL may be left out where FILE has one alone.
    """
    program = load(file, definitions)
    net = open_model(program, model_name(program, model))
    net.load(weights or _best_weights(program, net.network.name))
    outputs = _compute(net, read_inputs(program, net.network, inputs))
    if output is not None:
        _write(output, outputs)
    elif json:
        answer({"outputs": {name: array.tolist() for name, array in outputs.items()}})
    else:
        click.echo(_as_csv(outputs), nl=False)


def _best_weights(program: Program, name: str) -> Path:
    """The best weights that the last job on this model has left in the folder of `dnnc run`."""
    folder = Path("runs") / program.stem
    if len(program.jobs) > 1:
        count = sum(job.kind == "train" and job.model == name for job in program.jobs)
        folder = folder / f"train-{name}{f'-{count}' if count > 1 else ''}"
    path = folder / "best.safetensors"
    if not path.exists():
        raise DnnError(
            Diagnostic(
                "E907",
                f"there are no weights for `{name}`: {path} does not exist",
                help="train by `dnnc run`, or say where they are by --weights",
            )
        )
    return path


def _compute(net: Model, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs for all examples, computed some at a time where the outputs go by examples."""
    import numpy as np

    names = list(net.network.outputs)
    count = min(len(array) for array in arrays.values())
    parts = []
    for start in range(0, max(count, 1), BATCH):
        result = net(**{name: array[start : start + BATCH] for name, array in arrays.items()})
        parts.append(result if isinstance(result, dict) else {names[0]: result})
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _write(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    import numpy as np

    if path.suffix == ".npz":
        np.savez(path, **dict(outputs))  # type: ignore[arg-type]
    elif path.suffix == ".csv":
        path.write_text(_as_csv(outputs), encoding="utf-8")
    elif path.suffix == ".npy" and len(outputs) == 1:
        np.save(path, next(iter(outputs.values())))
    else:
        raise click.UsageError(
            f"{path}: the outputs {', '.join(outputs)} go into a .npz or a .csv file"
            if path.suffix == ".npy"
            else f"{path}: the name must end with .npy, .npz or .csv"
        )


def _as_csv(outputs: Mapping[str, np.ndarray]) -> str:
    """A row an example: one column an output, or one for each of its elements."""
    heading: list[str] = []
    columns: list[list[str]] = []
    for name, array in outputs.items():
        flat = array.reshape(len(array), -1)
        single = array.ndim == 1
        heading += [name if single else f"{name}_{i}" for i in range(flat.shape[1])]
        columns += [[str(value) for value in column] for column in flat.T]
    rows = [heading, *(list(row) for row in zip(*columns, strict=True))]
    return "".join(f"{','.join(row)}\n" for row in rows)
