"""The measured ceiling of the multiply-add units."""

from __future__ import annotations

import pytest

from dnnc.program.ceiling import measure_ceiling, measure_unit_ceiling
from dnnc.tuning.processor import matrix_unit


def test_the_ceiling_is_that_of_a_processor() -> None:
    # From a small core without vectors to more than any core of today.
    assert 1e9 < measure_ceiling() < 1e12


@pytest.mark.skipif(not matrix_unit(), reason="this processor has no matrix unit")
def test_the_matrix_unit_has_one_of_its_own() -> None:
    for crowded in (False, True):
        ceiling = measure_unit_ceiling(crowded=crowded)
        assert ceiling is not None
        assert 1e10 < ceiling < 1e13
