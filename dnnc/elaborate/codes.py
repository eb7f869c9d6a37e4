"""Error codes of names, settings, shapes and jobs."""

from __future__ import annotations

from dnnc.diagnostics import register_codes

__all__ = ["CODES"]

CODES = {
    "E101": "unknown name",
    "E102": "unknown setting",
    "E103": "too many arguments",
    "E104": "a setting or input is missing",
    "E105": "a positional argument follows a named one",
    "E106": "an argument is given twice",
    "E107": "unknown attribute",
    "E108": "wrong index",
    "E109": "braces after something that takes no blocks",
    "E110": "`as` after something that is no layer",
    "E111": "not callable",
    "E112": "wrong kind of value",
    "E113": "undefined arithmetic",
    "E114": "number out of range",
    "E120": "a name is defined twice",
    "E121": "a file imports itself",
    "E122": "an imported file is missing",
    "E210": "a port's shape does not fit",
    "E211": "a size exceeds its bound",
    "E212": "a size equation has no solution",
    "E213": "a size is not known when compiling",
    "E214": "misplaced `...`",
    "E215": "a parameter's size is not known",
    "E216": "a tensor is too large",
    "E217": "unknown or unsuitable element type",
    "E301": "a function returns nothing",
    "E302": "a condition is not known when compiling",
    "E303": "misplaced statement",
    "E304": "names and values differ in number",
    "E305": "a name is bound twice",
    "E306": "a requirement does not hold",
    "E307": "wrong number of rounds",
    "E308": "a start or next value does not fit",
    "E309": "a state inside a scan",
    "E310": "endless or excessive work when compiling",
    "E311": "wrong input of a block",
    "E312": "a block lacks a port",
    "E313": "an output is never given a value",
    "E314": "a scan without carry or emit",
    "E401": "unknown model",
    "E402": "unknown data",
    "E403": "unknown option of a job",
    "E404": "an option of a job is missing",
    "E405": "wrong value of an option",
    "E406": "an input has no data field",
    "E407": "a data field does not fit an input",
    "E408": "this kind of job is not supported",
    "E409": "a loss is not one number",
    "E410": "a metric cannot be summed over batches",
    "E411": "wrong optimizer",
    "E412": "wrong argument from Python",
    "E413": "a weight file does not fit",
}

register_codes(CODES)
