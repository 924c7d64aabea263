"""The arithmetic of a lease: nothing is used twice, nothing is lost, nothing outlives the lease.

That replicas together never exceed a limit is tested with their ledger, in tests/unit/store/test_token_ledger.py.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.limits import Lease, LedgerAnswer, Report, tokens_ahead

WINDOW_S = 60.0
LEASE_S = 5.0


@pytest.mark.parametrize(("limit", "ahead"), [(1, 1), (99, 1), (100, 1), (600, 6), (60_000, 600)])
def test_a_replica_holds_a_hundredth_of_the_limit_ahead(limit: int, ahead: int) -> None:
    """At least one token, at most 1%: what two replicas hold unused is little."""
    assert tokens_ahead(limit) == ahead


def _renewed(lease: Lease, now: float, *, waiting: int = 1, held: int = 7, free: int = 593) -> Report:
    report = lease.report(now, waiting=waiting)
    lease.renewed(report, LedgerAnswer(held, free, 0, 0, 1_000_000_000), now)
    return report


def test_a_lease_lasts_from_the_moment_it_was_asked_for() -> None:
    """The answer may be slow: the ledger's clock ran meanwhile, so the time on the way is not the replica's."""
    lease = Lease(WINDOW_S, 600)
    report = lease.report(100.0, waiting=1)
    lease.renewed(report, LedgerAnswer(7, 593, 0, 0, 0), now=104.0)
    assert lease.take(104.9)
    assert not lease.take(100.0 + LEASE_S)
    assert lease.take(100.0 + LEASE_S, is_suspended=True)


def test_the_standing_counts_down() -> None:
    """Remaining is what is free and what is in hand; reset is a window after the first use, by Redis's clock."""
    lease = Lease(WINDOW_S, 600)
    _renewed(lease, 100.0)
    assert lease.take(100.0)
    standing = lease.standing(100.0)
    assert (standing.limit, standing.remaining, standing.retry_after_s) == (600, 599, None)
    assert standing.reset_at == pytest.approx(1000.0 + WINDOW_S)
    assert lease.take(101.0)
    assert lease.standing(101.0).remaining == 598
    assert lease.standing(101.0).reset_at == pytest.approx(1000.0 + WINDOW_S)


def test_a_refusal_says_when_there_is_room_and_is_forgotten_soon() -> None:
    """One second of a window of sixty, or less where there is room sooner."""
    lease = Lease(WINDOW_S, 600)
    report = lease.report(100.0, waiting=1)
    lease.renewed(report, LedgerAnswer(0, 0, 1_030_000_000, 1_030_000_000, 1_000_000_000), now=100.0)
    assert lease.is_refused(100.5)
    assert lease.refusal(100.5).retry_after_s == pytest.approx(29.5)
    assert lease.refusal(100.5).reset_at == pytest.approx(1030.0)
    assert not lease.is_refused(101.0)
    report = lease.report(101.0, waiting=1)
    lease.renewed(report, LedgerAnswer(0, 0, 1_030_000_000, 1_001_200_000, 1_001_000_000), now=101.0)
    assert lease.is_refused(101.1)
    assert not lease.is_refused(101.3)


def test_an_answer_to_a_question_about_another_plan_opens_nothing() -> None:
    """The plan changed while the answer was on its way: its tokens wait for a renewal under the new limit."""
    lease = Lease(WINDOW_S, 60_000)
    report = lease.report(100.0, waiting=1)
    lease.adopt(600)
    lease.renewed(report, LedgerAnswer(601, 59_399, 0, 0, 0), now=100.0)
    assert not lease.take(100.0)
    assert lease.report(100.0).kept == 6


@given(
    st.lists(st.sampled_from(["take", "ask", "answer", "fail", "give_back"]), min_size=20, max_size=60),
    st.data(),
)
def test_tokens_are_neither_made_nor_lost(events: list[str], data: st.DataObject) -> None:
    """Granted = used + in hand + given back, and every use is reported once, whatever fails in between.

    What a lost report gave back stays given back: the ledger may have granted it to another replica by then.
    """
    lease = Lease(WINDOW_S, 600)
    granted = used = given_back = reported = 0
    sent: Report | None = None
    for now, event in enumerate(events):
        moment = now * 0.01
        if event == "take":
            used += lease.take(moment, is_suspended=True)
        elif event in ("ask", "give_back"):
            if sent is None:
                sent = lease.report(moment, waiting=1) if event == "ask" else lease.give_back(moment)
        elif sent is not None:
            given_back += sent.dropped
            if event == "fail":
                lease.failed(sent)
            else:
                new = data.draw(st.integers(0, 10))
                lease.renewed(sent, LedgerAnswer(sent.kept + new, 100, 0, 0, 0), moment)
                granted += new
                reported += sent.spent
            sent = None
    on_the_way = sent or Report(0, 0, 0.0, 0, 0, 0, 0, 0.0)
    assert granted == used + lease.tokens + given_back + on_the_way.dropped
    assert used == reported + lease.spent + on_the_way.spent
