"""Which runs the controller replaces: those that died, and those that hang."""

from __future__ import annotations

from dataclasses import replace

from fyretoolkit.core.jobs import BatchJob, FailJob, JobCommand, StartRun, plan_runs
from fyretoolkit.core.lifecycles import JobStatus

NOW_MS = 1_000_000
JOB = BatchJob(
    id="job_1", org="o", status=JobStatus.QUEUED, model="m", artifact="a", spec={}, input_url="u", created=1
)
RUNNING = replace(JOB, status=JobStatus.PROCESSING, epoch=3, runs=0, lease_until=NOW_MS + 1)


def planned(*jobs: BatchJob, live: dict[str, int] | None = None) -> list[JobCommand]:
    """The plan over these jobs; at most 5 runs a job."""
    return plan_runs(jobs, live or {}, NOW_MS, max_runs=5)


def test_a_living_run_is_left_alone() -> None:
    """Its process is there and its lease holds."""
    assert planned(RUNNING, live={"job_1": 3}) == []


def test_a_dead_run_is_replaced_at_once() -> None:
    """Its process is gone: the rest of its lease is not waited for."""
    assert planned(RUNNING) == [StartRun(RUNNING, dead_epoch=3)]


def test_a_hanging_run_is_replaced_when_its_lease_ends() -> None:
    """Its process is there, but it stopped renewing."""
    hanging = replace(RUNNING, lease_until=NOW_MS)
    assert planned(hanging, live={"job_1": 3}) == [StartRun(hanging, dead_epoch=3)]


def test_a_run_that_committed_nothing_is_followed_after_a_pause() -> None:
    """A full disk must not use up all runs in a minute: 1 s, 2 s, 4 s and so on behind its last sign of life."""
    for runs, pause_ms in ((1, 1_000), (2, 2_000), (4, 8_000)):
        fruitless = replace(RUNNING, runs=runs, seen_ms=NOW_MS - pause_ms)
        assert planned(fruitless) == [StartRun(fruitless, dead_epoch=3)]
        assert planned(replace(fruitless, seen_ms=NOW_MS - pause_ms + 1)) == []


def test_the_pause_before_a_run_has_an_end() -> None:
    """At most a minute, however often it failed."""
    fruitless = replace(RUNNING, runs=19, seen_ms=NOW_MS - 60_000)
    assert plan_runs([fruitless], {}, NOW_MS, max_runs=20) == [StartRun(fruitless, 3)]


def test_a_run_that_committed_is_followed_at_once() -> None:
    """A SIGKILL costs no pause: the commit set the count of runs back."""
    killed = replace(RUNNING, runs=0, seen_ms=NOW_MS)
    assert planned(killed) == [StartRun(killed, dead_epoch=3)]


def test_an_older_run_that_lives_on_does_not_count() -> None:
    """The process that lives belongs to an epoch that was fenced off."""
    assert planned(RUNNING, live={"job_1": 2}) == [StartRun(RUNNING, dead_epoch=3)]


def test_a_job_whose_runs_keep_dying_ends() -> None:
    """A poisonous job does not run for ever."""
    (command,) = planned(replace(RUNNING, runs=5))
    assert isinstance(command, FailJob)
    assert command.code == "run_failed"


def test_the_oldest_job_is_seen_to_first() -> None:
    """Whatever the order in which they were read."""
    younger = replace(RUNNING, id="job_2")
    assert planned(younger, RUNNING) == [StartRun(RUNNING, 3), StartRun(younger, 3)]


DRIVEN = replace(RUNNING, epoch=1, driver="raysubmit_1")


def test_the_run_of_a_driver_is_left_to_it_as_long_as_its_lease_holds() -> None:
    """No actor of the platform holds it, so none is looked for."""
    assert planned(DRIVEN) == []


def test_the_job_of_a_dead_driver_is_taken_over_when_its_lease_ends() -> None:
    """Whatever ended it: what was committed is kept."""
    left = replace(DRIVEN, lease_until=NOW_MS)
    assert planned(left) == [StartRun(left, dead_epoch=1)]


def test_a_later_run_of_a_drivers_job_is_a_run_like_any_other() -> None:
    """Its actor died: it is replaced at once."""
    taken = replace(DRIVEN, epoch=2)
    assert planned(taken) == [StartRun(taken, dead_epoch=2)]
    assert planned(taken, live={"job_1": 2}) == []
