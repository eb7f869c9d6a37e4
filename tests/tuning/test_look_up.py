"""Which choice is taken: of this machine, of the shipped table, or of the rule of thumb."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnnc.ir.dims import dim
from dnnc.tuning import tables
from dnnc.tuning.decisions import asked, batch, choose, decision, depends_on_batch
from tests.tuning.conftest import Ask, Shipped

CASE = "size=3"


def test_the_rule_where_nothing_is_known(ask: Ask) -> None:
    assert choose(ask(4)) == 0


def test_measured_before_shipped_before_the_rule(ask: Ask, ship: Shipped) -> None:
    ship({"toy": {CASE: {"4": 1}}})  # type: ignore[dict-item]
    assert choose(ask(4)) == 1
    tables.store({"toy": {CASE: {4: 2}}})
    assert choose(ask(4)) == 2


def test_switches(ask: Ask, ship: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    ship({"toy": {CASE: {"4": 1}}})  # type: ignore[dict-item]
    tables.store({"toy": {CASE: {4: 2}}})
    found = {}
    for state in ("on", "shipped", "off"):
        monkeypatch.setenv("DNNC_TUNE", state)
        found[state] = choose(ask(4))
    assert found == {"on": 2, "shipped": 1, "off": 0}


def test_without_a_cache_only_what_is_shipped(
    ask: Ask, ship: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship({"toy": {CASE: {"4": 1}}})  # type: ignore[dict-item]
    tables.store({"toy": {CASE: {4: 2}}})
    monkeypatch.setenv("DNNC_CACHE", "off")
    assert choose(ask(4)) == 1
    assert tables.store({"toy": {CASE: {4: 2}}}) is None


def test_a_choice_that_is_no_candidate_is_no_choice(ask: Ask) -> None:
    tables.store({"toy": {CASE: {4: 7}}})
    assert choose(ask(4)) == 0


@pytest.mark.parametrize(
    ("amount", "choice"), [(1, 1), (4, 1), (5, 0), (15, 0), (16, 2), (64, 2), (256, 2), (257, 0)]
)
def test_the_nearest_amount_answers(ask: Ask, amount: int, choice: int) -> None:
    tables.store({"toy": {CASE: {1: 1, 64: 2}}})
    assert choose(ask(amount)) == choice


def test_an_amount_that_is_not_known_takes_what_all_agree_on(ask: Ask) -> None:
    tables.store({"toy": {CASE: {1: 1, 64: 1}}})
    assert choose(ask(dim("n"))) == 1
    tables.store({"toy": {CASE: {64: 2}}})
    assert choose(ask(dim("n"))) == 0


def test_amounts_follow_the_batch(ask: Ask) -> None:
    tables.store({"toy": {CASE: {1: 1, 64: 2}}})
    with batch(1):
        assert choose(ask(dim("n"))) == 1
        assert choose(ask(64 * dim("n"))) == 2
        assert choose(ask(dim("n") * dim("m"))) == 0
    with batch(64):
        assert choose(ask(dim("n"))) == 2


def test_whether_the_batch_decides(ask: Ask) -> None:
    assert not depends_on_batch(ask(dim("n")))
    tables.store({"toy": {CASE: {1: 0}}})
    assert not depends_on_batch(ask(dim("n")))
    tables.store({"toy": {CASE: {64: 2}}})
    assert depends_on_batch(ask(dim("n")))
    assert not depends_on_batch(ask(64))


def test_questions_are_noted_once(ask: Ask) -> None:
    with asked() as questions:
        for amount in (1, 2, 1):
            choose(ask(amount))
    choose(ask(3))
    assert list(questions) == [ask(1), ask(2)]


def test_decisions_have_names_of_their_own(ask: Ask) -> None:
    toy = ask(1).decision
    with pytest.raises(TypeError, match="two decisions"):
        decision("convolution", toy.candidates, toy.rule, toy.graph)


def test_the_shipped_file_is_one() -> None:
    path = Path(tables.__file__).with_name("defaults.json")
    assert isinstance(tables.read_shipped(path), dict)
