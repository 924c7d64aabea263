"""Small jobs whose webhooks go to receivers that answer, refuse, hang, drip, reset and redirect; senders are killed.

Half of the jobs tell a receiver that answers, the others one of each other kind in turn. In the middle of it a sender
is killed with `kill -9`, the one in its own actor and the one in our controller in turn. The pauses between attempts
are shortened (`PAUSES_S`), the 15 s of an attempt are not. With `--bare` there are senders and a store alone, and jobs
end through the store, ten a second; without it there is a platform, and each job runs.

How soon a healthy receiver is told counts from the job's `finished`, which is in whole seconds and rounded down: what
is shown is too long by up to a second. Nothing is left out, neither jobs that ended while a sender was dead nor the
deliveries that it had in its hands.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

import httpx
from standardwebhooks.webhooks import WebhookVerificationError

from scripts.benchmarks.behaviour.stage import Finding, conclude, introduce, running_platform
from scripts.trials.faults.kills import CONTROLLER
from scripts.trials.senders.bare import BareStage, bare_stage
from tests.support.platform import RunningPlatform, until
from tests.support.receivers import BEHAVIOURS, WILLING, Received, Receivers, receiving

HELP = (
    "200 jobs with webhooks to receivers of every kind, senders killed five times: each willing one is told"
)

PAUSES_S = (1, 2, 3)
WITHIN_S = 2.0
HEALTHY = ("ok", "huge")
"""Those that take an event at the first attempt."""
REASONS = {"gone": "gone", "redirect": "schedule_ended", "hang": "schedule_ended", "drip": "schedule_ended"}
"""Why those that never take one are given up."""
SENDERS = ("ray::WebhookActor", CONTROLLER)
_INPUT = b'{"text": "an utterly compelling film"}\n{"text": "a complete waste of time"}\n'
_PATIENCE_S = 300.0
_KINDS = tuple(kind for kind in BEHAVIOURS if kind not in ("ok", "trickle"))


@dataclass(frozen=True, slots=True)
class Told:
    """One job, the kind of its receiver, and its delivery as the API shows it at the end."""

    kind: str
    job: Mapping[str, Any]
    delivery: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that was seen."""

    told: Sequence[Told]
    received: Sequence[Received]
    secret: str
    killed: Sequence[str]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/chaos webhooks`."""
    parser.add_argument("--jobs", type=int, default=200, help="with a webhook each (200)")
    parser.add_argument("--canceled", type=int, default=0, help="of them, canceled while they wait (0)")
    parser.add_argument("--kills", type=int, default=5, help="of a sender (5)")
    parser.add_argument("--bare", action="store_true", help="senders and a store alone, without Ray")
    parser.add_argument("--running", type=int, default=2, help="jobs that run at once (2)")


def run(options: argparse.Namespace) -> int:
    """Print the findings; 1 if one does not hold."""
    introduce()
    kinds = list(islice(chain.from_iterable(zip(cycle(["ok"]), cycle(_KINDS), strict=False)), options.jobs))
    if options.bare:
        with bare_stage({"pauses_s": list(PAUSES_S)}) as stage:
            return conclude(judge(conduct_bare(stage, kinds, kills=options.kills), kills=options.kills))
    overrides = {"webhooks": {"pauses_s": list(PAUSES_S)}, "batch": {"max_running_jobs": options.running}}
    with running_platform(overrides, has_demo_models=True) as platform:
        trial = conduct(platform, kinds, kills=options.kills, canceled=options.canceled)
    return conclude(judge(trial, kills=options.kills))


def conduct(platform: RunningPlatform, kinds: Sequence[str], *, kills: int, canceled: int = 0) -> Trial:
    """One job for each of `kinds`; the last `canceled` of them do not run. A sender is killed at even distances."""
    with receiving(*sorted(set(kinds))) as receivers, _client(platform) as client:
        secret = client.get("/webhook_secret").raise_for_status().json()["secret"]
        upload = client.post("/files", params={"filename": "rows.jsonl"}, content=_INPUT, headers=_BYTES)
        source = f"fyre://files/{upload.raise_for_status().json()['id']}"
        jobs = [_job(client, source, receivers.urls[kind]) for kind in kinds]
        for name in jobs[len(jobs) - canceled :]:
            client.post(f"/jobs/{name}/cancel")  # one that has completed already stays so
        killed = _kill_at_even_distances(platform, receivers, len(jobs), kills)
        deliveries = [_settled(client, name) for name in jobs]  # after that every job has ended
        told = [
            Told(kind, client.get(f"/jobs/{name}").json(), delivery)
            for kind, name, delivery in zip(kinds, jobs, deliveries, strict=True)
        ]
        return Trial(told, list(receivers.received), secret, killed)


def conduct_bare(stage: BareStage, kinds: Sequence[str], *, kills: int, pause_s: float = 0.1) -> Trial:
    """The same without a platform: a job ends every `pause_s`, and a sender is killed at even distances."""
    with receiving(*sorted(set(kinds))) as receivers:
        jobs: list[str] = []
        killed: list[str] = []
        for number, kind in enumerate(kinds):
            if number in {len(kinds) * (kill + 1) // (kills + 1) for kill in range(kills)}:
                killed.append(stage.kill(len(killed)))
            jobs.append(stage.end_job(receivers.urls[kind]))
            time.sleep(pause_s)
        told = [
            Told(kind, stage.job(name), until(_ending(stage, name), timeout_s=_PATIENCE_S, what=name))
            for kind, name in zip(kinds, jobs, strict=True)
        ]
        return Trial(told, list(receivers.received), stage.secret, killed)


def _ending(stage: BareStage, job: str) -> Callable[[], dict[str, Any] | None]:
    def settled() -> dict[str, Any] | None:
        found = stage.delivery(job)
        return found if found["status"] != "pending" else None

    return settled


_BYTES = {"content-type": "application/octet-stream"}


def _client(platform: RunningPlatform) -> httpx.Client:
    """With the key of an organization of the trial's own, without limits: 200 jobs are more than a minute's writes."""
    with platform.client() as operator:
        made = operator.post("/organizations", json={"name": "webhooks", "plan": "unlimited"})
    key: str = made.raise_for_status().json()["api_key"]["key"]
    return httpx.Client(base_url=platform.url, auth=(key, ""), timeout=60, trust_env=False)


def _job(client: httpx.Client, source: str, webhook: str) -> str:
    made = client.post("/batch/sentiment-v1", json={"input_url": source, "webhook": webhook})
    return str(made.raise_for_status().json()["id"])


def _kill_at_even_distances(
    platform: RunningPlatform, receivers: Receivers, jobs: int, kills: int
) -> list[str]:
    """Each after as many more events have been sent for the first time; the kinds of sender in turn."""
    killed = []
    for number in range(kills):
        share = jobs * (number + 1) // (kills + 1)
        until(
            lambda share=share: len({each.id for each in receivers.received}) >= share,  # type: ignore[misc]
            timeout_s=_PATIENCE_S,
            what=f"{share} events sent",
        )
        killed.append(SENDERS[number % len(SENDERS)])
        platform.kill(killed[-1])
        print(f"{killed[-1]} killed after {share} of {jobs} events", flush=True)
    return killed


def _settled(client: httpx.Client, job: str) -> dict[str, Any]:
    """The delivery of a job once nothing more is attempted."""

    def settled() -> dict[str, Any] | None:
        try:
            answer = client.get(f"/jobs/{job}/deliveries")
        except httpx.TransportError:
            return None
        found = answer.json()["data"] if answer.status_code == 200 else []
        return found[0] if found and found[0]["status"] != "pending" else None

    return until(settled, timeout_s=_PATIENCE_S, what=f"the delivery of {job} settled")


def judge(trial: Trial, *, kills: int) -> list[Finding]:
    """What must hold, with what was seen."""
    wrong = [each for each in trial.received if not _is_right(trial, each)]
    missing = [each for each in trial.told if each.kind in WILLING and not _arrivals(trial, each)]
    willing = [each for each in trial.told if each.kind in WILLING]
    undelivered = [each for each in willing if each.delivery["status"] != "delivered"]
    kept = [each for each in trial.told if each.kind in REASONS]
    wrongly_kept = [each for each in kept if each.delivery["reason"] != REASONS[each.kind]]
    extra = sum(max(0, len(_arrivals(trial, each)) - 1) for each in trial.told if each.kind in HEALTHY)
    ended = {each.job["status"] for each in trial.told}
    return [
        Finding(
            f"verified by the standardwebhooks library, under the delivery's id: {len(trial.received) - len(wrong)} of "
            f"{len(trial.received)} requests",
            bool(trial.received) and not wrong,
        ),
        Finding(
            f"events that a willing receiver got at least once: {len(willing) - len(missing)} of {len(willing)}; "
            f"delivered by the log: {len(willing) - len(undelivered)}; more than once at a healthy one: {extra}",
            bool(willing) and not missing and not undelivered,
        ),
        Finding(
            f"the unwilling given up for their reason: {len(kept) - len(wrongly_kept)} of {len(kept)}",
            not wrongly_kept,
        ),
        Finding(f"jobs as they ended: {', '.join(sorted(ended))}", ended <= {"completed", "canceled"}),
        Finding(f"senders killed: {len(trial.killed)} of {kills}", len(trial.killed) == kills),
        _soon(trial),
    ]


def _soon(trial: Trial) -> Finding:
    """The p99 by nearest rank."""
    waits = sorted(
        min((each.at for each in _arrivals(trial, told)), default=float("inf")) - told.job["finished"]
        for told in trial.told
        if told.kind in HEALTHY
    )
    p50, p99 = waits[(len(waits) - 1) // 2], waits[-(-99 * len(waits) // 100) - 1]
    return Finding(
        f"healthy receivers told after the job's `finished` (too long by up to 1 s), kills included: p50 {p50:.2f} s, "
        f"p99 {p99:.2f} s, longest {waits[-1]:.2f} s of {len(waits)}; p99 at most {WITHIN_S:g} s",
        p99 <= WITHIN_S,
    )


def _arrivals(trial: Trial, told: Told) -> list[Received]:
    return [each for each in trial.received if each.id == told.delivery["id"] and each.kind == told.kind]


def _is_right(trial: Trial, received: Received) -> bool:
    """Whether it is signed, and tells of the job that its id belongs to."""
    jobs = {each.delivery["id"]: each.job for each in trial.told}
    try:
        event = received.verified(trial.secret)
    except WebhookVerificationError:
        return False
    job = jobs.get(received.id)
    return job is not None and (event["data"]["id"], event["data"]["status"]) == (job["id"], job["status"])
