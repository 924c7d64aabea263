"""What a scraper is shown: totals that only grow, in the buckets that Prometheus computes quantiles from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.errors import OF_REQUESTS
from fyretoolkit.core.exposition import BOUNDS_MS, SERIES, Sample, Served, Totals
from fyretoolkit.core.metrics import Tally

SERVED = Served("dep_a", "m", "r")
DURATIONS = st.lists(st.floats(0, 60_000), max_size=40)


def _answered(*latencies_ms: float) -> Tally:
    tally = Tally()
    for latency_ms in latencies_ms:
        tally.add_answer(
            total_ms=latency_ms, queue_ms=latency_ms / 2, compute_ms=latency_ms / 4, inputs=3, batch_rows=8
        )
    return tally


def _shown(totals: Totals) -> dict[tuple[str, str], float]:
    """By name and the label that tells the samples of one name apart."""
    return {
        (name, labels.get("le", labels.get("code", ""))): value
        for name, value, labels in totals.samples(SERVED)
    }


def test_buckets_hold_what_is_at_most_their_bound() -> None:
    """Counted by hand: 0.1, 4, 4, 90 and 40,000 ms."""
    totals = Totals()
    totals.add(_answered(0.1, 4, 4, 90, 40_000))
    shown = _shown(totals)
    name = "fyre_prediction_latency_ms"
    counts = {
        le: shown[f"{name}_bucket", le] for le in ("0.25", "3", "5", "75", "100", "10000", "30000", "+Inf")
    }
    assert counts == {"0.25": 1, "3": 1, "5": 3, "75": 3, "100": 4, "10000": 4, "30000": 4, "+Inf": 5}
    assert shown[f"{name}_count", ""] == 5
    assert shown[f"{name}_sum", ""] == pytest.approx(40_098.1)
    assert shown["fyre_prediction_inputs_total", ""] == 15
    assert shown["fyre_prediction_batch_rows_total", ""] == 40


def test_each_outcome_is_shown_with_its_code_and_status() -> None:
    """Those that an alert asks for stand at 0 before the first: a rate needs something to grow from."""
    tally = _answered(1.0)
    tally.canceled = 2
    tally.add_error("overloaded")
    tally.add_error("invalid_input")
    totals = Totals()
    totals.add(tally)
    shown = {
        (labels["code"], labels["status"]): value
        for name, value, labels in totals.samples(SERVED)
        if name == "fyre_predictions_total"
    }
    assert shown == {
        ("ok", "200"): 1,
        ("canceled", "499"): 2,
        ("overloaded", "503"): 1,
        ("invalid_input", "422"): 1,
        ("deadline_exceeded", "504"): 0,
        ("internal_error", "500"): 0,
        ("rate_limit_exceeded", "429"): 0,
        ("unavailable", "503"): 0,
    }


@pytest.mark.parametrize("code", sorted(OF_REQUESTS))
def test_every_code_that_a_request_may_end_with_has_a_status(code: str) -> None:
    tally, totals = Tally(), Totals()
    tally.add_error(code)
    totals.add(tally)
    (status,) = {
        labels["status"] for _, value, labels in totals.samples(SERVED) if labels.get("code") == code
    }
    assert 400 <= int(status) < 600


@given(DURATIONS, DURATIONS)
def test_totals_never_shrink(first: list[float], second: list[float]) -> None:
    """And every bucket holds those below it: what Prometheus takes for granted."""
    totals = Totals()
    totals.add(_answered(*first))
    before = _shown(totals)
    totals.add(_answered(*second))
    after = _shown(totals)
    assert all(after[key] >= value for key, value in before.items())
    buckets = [
        after["fyre_prediction_queue_ms_bucket", le] for le in (*(f"{b:g}" for b in BOUNDS_MS), "+Inf")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after["fyre_prediction_queue_ms_count", ""] == len(first) + len(second)


@given(DURATIONS)
def test_a_bucket_is_off_by_values_next_to_its_bound_alone(latencies: list[float]) -> None:
    """Within 2% of the bound."""
    totals = Totals()
    totals.add(_answered(*latencies))
    shown = _shown(totals)
    for bound in BOUNDS_MS:
        count = shown["fyre_prediction_latency_ms_bucket", f"{bound:g}"]
        assert sum(each <= bound for each in latencies) <= count
        assert count <= sum(each <= bound * 1.02 for each in latencies)


def test_what_is_shown_has_the_labels_it_was_announced_with() -> None:
    """Ray drops a gauge whose labels are not those that it was made with."""
    samples: list[Sample] = list(Totals().samples(SERVED))
    assert all(tuple(labels) == SERIES[name].labels for name, _, labels in samples)
    assert not any("org" in label for series in SERIES.values() for label in series.labels)


def test_a_copy_is_added_to_alone() -> None:
    totals = Totals()
    copied = totals.copy()
    copied.add(_answered(1.0))
    assert _shown(totals)["fyre_predictions_total", "ok"] == 0
    assert _shown(totals)["fyre_prediction_latency_ms_bucket", "+Inf"] == 0
