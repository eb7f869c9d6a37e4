"""The error codes of data blocks, and how their errors are made."""

from __future__ import annotations

from collections.abc import Iterable

from dnnc.diagnostics import Diagnostic, DnnError, Note, Span, register_codes

register_codes(
    {
        "E501": "unknown name in a data block",
        "E502": "unknown function in a data block",
        "E503": "a call in a data block has wrong arguments",
        "E504": "unknown column or member of a source",
        "E505": "an option of a data block has a wrong value",
        "E506": "a file or folder cannot be opened",
        "E507": "a compressed file is damaged",
        "E508": "a file is not of the expected format",
        "E509": "a file holds less or more data than it declares",
        "E510": "values of a type that cannot be data",
        "E511": "text where numbers are needed",
        "E512": "a row has too few or too many cells",
        "E513": "a value is missing",
        "E514": "a value is not a finite number",
        "E515": "a source has no rows",
        "E516": "columns have different numbers of rows",
        "E517": "the splits are not well defined",
        "E518": "a split is empty",
        "E519": "a source needs a package that is not installed",
        "E520": "an array was not given",
        "E521": "shapes do not fit",
        "E522": "an operation is not defined on these values",
        "E523": "a value is outside its range or vocabulary",
        "E524": "an entry that a data block cannot hold",
    }
)


class IncompleteError(Exception):
    """An answer depends on rows that a sample does not hold."""


class DependencyError(Exception):
    """An entry depends on one that failed and is reported already."""


def fault(
    code: str,
    message: str,
    span: Span | None,
    *,
    label: str = "",
    notes: Iterable[Note] = (),
    help: str | None = None,
) -> DnnError:
    """A `DnnError` of one diagnostic, to be raised by the caller."""
    return DnnError(Diagnostic(code, message, span, label, tuple(notes), help))
