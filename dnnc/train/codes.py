"""The error codes of training runs."""

from __future__ import annotations

from dnnc.diagnostics import Diagnostic, DnnError, Note, Span, register_codes

__all__ = ["fault"]

register_codes(
    {
        "E601": "the loss is not finite",
        "E602": "the input data hold values that are not finite",
        "E603": "the run folder is in use by another process",
        "E604": "the run folder cannot be read or written",
        "E605": "a run cannot be resumed with other settings than its own",
        "E606": "a checkpoint or a file it needs is damaged",
        "E607": "the data do not suit the job",
    }
)


def fault(
    code: str,
    message: str,
    span: Span | None = None,
    *,
    label: str = "",
    notes: tuple[Note, ...] = (),
    help: str | None = None,
) -> DnnError:
    """One error of a run."""
    return DnnError(Diagnostic(code, message, span, label, notes, help))
