"""Each promise of the contract has a test or an issue that builds it."""

from __future__ import annotations

from collections import Counter

from tests.support.sentences import contract_sentences, marked_tests

ISSUES = {
    "A data plane at the speed of the machine",
    "Deployments an operator can trust: lifecycle, regions, scaling, GPUs, traffic",
    "Batch: full speed, exactly once, whatever happens",
    "The hands: SDK, CLI, playground, docs",
}


def test_ids_are_used_once() -> None:
    """A copied line keeps the id of the line it came from."""
    counts = Counter(item.id for item in contract_sentences())
    assert len(counts) > 250
    assert [name for name, count in counts.items() if count > 1] == []


def test_each_promise_has_a_test_or_is_pending() -> None:
    """What nobody tests is not promised."""
    tested = {name for name, _ in marked_tests()}
    missing = [item.id for item in contract_sentences() if item.pending is None and item.id not in tested]
    assert missing == []


def test_no_test_names_an_item_that_is_not_there_or_pending() -> None:
    """A pending item that a test holds already is not pending."""
    kept = {item.id for item in contract_sentences() if item.pending is None}
    assert [f"{test}: {name}" for name, test in marked_tests() if name not in kept] == []


def test_pending_items_name_an_issue() -> None:
    """By its title."""
    pending = {item.pending for item in contract_sentences() if item.pending is not None}
    assert pending <= ISSUES
