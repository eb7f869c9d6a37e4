"""The measured ceiling of the multiply-add units."""

from __future__ import annotations

from dnnc.program.ceiling import measure_ceiling


def test_the_ceiling_is_that_of_a_processor() -> None:
    # From a small core without vectors to more than any core of today.
    assert 1e9 < measure_ceiling() < 1e12
