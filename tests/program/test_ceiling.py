"""The measured ceiling of the multiply-add units."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dnnc.program.ceiling import (
    measure_ceiling,
    measure_register_ceiling,
    measure_unit_ceiling,
    unit_rates,
)
from dnnc.tuning.processor import matrix_unit


@pytest.mark.parametrize("measure", [measure_ceiling, measure_register_ceiling])
def test_the_ceiling_is_that_of_a_processor(measure: Callable[[], float]) -> None:
    # From a small core without vectors to more than any core of today.
    assert 1e9 < measure() < 1e12


@pytest.mark.skipif(not matrix_unit(), reason="this processor has no matrix unit")
def test_the_matrix_unit_has_one_of_its_own() -> None:
    ceiling = measure_unit_ceiling()
    assert ceiling is not None
    assert 1e10 < ceiling < 1e13


@pytest.mark.skipif(not matrix_unit(), reason="this processor has no matrix unit")
def test_rates_of_the_matrix_unit_by_registers() -> None:
    rates = unit_rates((4, 8), 0.01)
    assert rates
    for row in rates:
        assert len(row) == 2
        assert all(1e7 < rate < 1e13 for rate in row)
