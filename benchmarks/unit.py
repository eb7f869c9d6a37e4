"""How fast the matrix unit multiplies between registers, by how many of them hold something.

python -m benchmarks.unit

One thread samples all counts in turns. What the lowest samples tell is the state in which the
other thread of the core is at work, on a machine where it sometimes is.
"""

from __future__ import annotations

import numpy as np

from benchmarks.command_line import make_parser, parse
from dnnc.kernels.target import unit_usable
from dnnc.program.ceiling import unit_rates

__all__ = ["main"]

_REGISTERS = (4, 5, 6, 7, 8)
_PERCENTILES = (10, 50, 90)


def main() -> None:
    parser = make_parser("benchmarks.unit", __doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parse(parser)
    if not unit_usable():
        raise SystemExit("this processor has no matrix unit, or DNNC_MATRIX_UNIT is 0")
    rates = np.array(unit_rates(_REGISTERS, arguments.seconds)) / 1e9
    print("registers   GFLOP/s of float32, percentiles", *_PERCENTILES)
    for count, found in zip(_REGISTERS, np.percentile(rates, _PERCENTILES, axis=0).T, strict=True):
        print(f"{count:9d}  ", *(f"{rate:5.0f}" for rate in found))


if __name__ == "__main__":
    main()
