"""Choices between methods that give the same results, taken by what they cost.

`decisions` is the registry of what is chosen, and the look-up: what was measured on this machine,
else the table that is shipped, else a rule of thumb. `tables` reads and writes the measured and the
shipped choices, `processor` says what they are valid for. Passes only look up; `program/tuner.py`
measures, which `dnnc tune` asks for.
"""
