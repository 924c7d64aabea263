"""Who gets the next run, and how many are missing."""

from __future__ import annotations

from fyretoolkit.core.runners import StandbyRunner, choose_runner, count_missing

UP, STARTING = StandbyRunner("b"), StandbyRunner("a", is_up=False)
OWN, FOREIGN = StandbyRunner("c", "org_a"), StandbyRunner("d", "org_b")


def test_an_organizations_own_runner_goes_first() -> None:
    """Then one that is up, then one that starts."""
    assert choose_runner([STARTING, UP, FOREIGN, OWN], "org_a") == OWN
    assert choose_runner([STARTING, UP, FOREIGN], "org_a") == UP
    assert choose_runner([STARTING, FOREIGN], "org_a") == STARTING


def test_anothers_runner_is_never_given_away() -> None:
    """What its job left in the process must not meet other rows."""
    assert choose_runner([FOREIGN], "org_a") is None


def test_only_those_for_anybody_count() -> None:
    """The others leave soon."""
    assert count_missing([OWN, FOREIGN, STARTING], 2) == 1
    assert count_missing([UP, STARTING], 1) == 0
    assert count_missing([], 0) == 0
