"""What is left when a trial of deployments is over: nothing that was accepted is missing, nothing is there twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from scripts.trials.faults.churn import Deploy, persist
from tests.support.platform import RunningPlatform
from tests.support.serve_rest import ServeRest

_WATCH_S = 8.0
"""Dozens of rounds of either controller: what one of them brings back is there by then."""
_QUIET_WITHIN_S = 240.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What the platform shows when all is quiet. Deployments are named by their ids."""

    accepted: frozenset[str]
    """That the answers to their creation named and that were not deleted."""
    listed: Sequence[str]
    """That the organization has, as it is told."""
    unlike: Sequence[str]
    """Idempotency keys whose repetition gives another answer than the first."""
    returned: Sequence[str]
    """That were deleted and are there again."""
    applications: Sequence[int]
    """Of Serve, for models: how many there were at each look."""
    unserved: Sequence[str]
    """Deployments without an application of their own."""
    wanted: int
    """How many there should be: one for each deployment, and those that stand by."""


def look_after(platform: RunningPlatform, rest: ServeRest, deploys: Sequence[Deploy], key: str) -> Aftermath:
    """Look for a while, once all is quiet.

    `key` is that of the organization whose deployments came and went; beside them is the one that took the load.
    """
    accepted = frozenset(each.id for each in deploys if each.id and not each.is_deleted)
    deleted = [each.id for each in deploys if each.is_deleted]
    wanted = len(accepted) + 1 + standby_size(platform)
    _await(lambda: len(rest.of_models()) == wanted)
    with httpx.Client(base_url=platform.url, auth=(key, ""), timeout=15, trust_env=False) as http:
        unlike = [each.body["idempotency_key"] for each in deploys if not _is_repeated(http, each)]
        applications = []
        watched_until = time.monotonic() + _WATCH_S
        while time.monotonic() < watched_until:
            applications.append(len(rest.of_models()))
            time.sleep(_POLL_S)
        returned = [name for name in deleted if _is_there(http, name)]
        unserved = _unserved(http, accepted, rest)
        listed = list(_listed(http))
    return Aftermath(accepted, listed, unlike, returned, applications, unserved, wanted)


def standby_size(platform: RunningPlatform) -> int:
    """How many applications without a model a platform keeps."""
    config = yaml.safe_load(Path(platform.environ["FYRE_CONFIG"]).read_text("utf-8"))
    return int(config["standby"]["size"]) * len(config["standby"]["shapes"])


def _await(check: Callable[[], bool]) -> None:
    """Give it time; what is there after that is looked at either way."""
    deadline = time.monotonic() + _QUIET_WITHIN_S
    while time.monotonic() < deadline and not check():
        time.sleep(_POLL_S)


def _unserved(http: httpx.Client, names: Collection[str], rest: ServeRest) -> list[str]:
    """Those whose application Serve does not have, or another deployment has too."""
    found = {name: persist(lambda: http.get(f"/deployments/{name}"), 200).json() for name in names}  # noqa: B023
    owners = Counter(each["application"] for each in found.values())
    known = rest.of_models()
    return [
        name
        for name, each in found.items()
        if each["application"] not in known or owners[each["application"]] > 1
    ]


def _is_there(http: httpx.Client, name: str) -> bool:
    return persist(lambda: http.get(f"/deployments/{name}"), 200, 404).status_code == 200


def _is_repeated(http: httpx.Client, deploy: Deploy) -> bool:
    """Whether the same call, made again, names the same deployment and says that it made none."""
    answer = persist(lambda: http.post("/deployments", json=deploy.body), 201)
    is_replayed = answer.headers.get("idempotent-replayed") == "true"
    return is_replayed and answer.json()["id"] == deploy.id


def _listed(http: httpx.Client) -> Iterator[str]:
    after: dict[str, str] = {}
    while True:
        page = persist(lambda: http.get("/deployments", params={"limit": 100, **after}), 200).json()  # noqa: B023
        for each in page["data"]:
            yield each["id"]
        if not page["has_more"]:
            return
        after = {"starting_after": page["data"][-1]["id"]}
