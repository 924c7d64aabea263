"""Creating a record, its list entries and the answer to its idempotency key in one step.

Claim and object are one script, so there is no moment in which a crash leaves a claimed key without its object.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.quotas import Resource, quota_exceeded
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, script_argument

IDEMPOTENCY_TTL_S = 86_400


class CreationOutcome(Enum):
    """What a call to create achieved."""

    CREATED = "created"
    """The record, or what a call put into one, is new."""
    EXISTS = "exists"
    """A record with this id was there already; nothing changed."""
    REPLAYED = "replayed"
    """The idempotency key was used with the same request: `answer` is the first answer."""
    REFUSED = "refused"
    """A record that must be ready is not: `answer` is its status; nothing changed."""


@dataclass(frozen=True, slots=True)
class Creation:
    """The outcome; for a replay the stored answer (JSON text), for a refusal the status that stood in the way."""

    outcome: CreationOutcome
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of `resource` the organization may have; None: any number.

    `beginning`: of the list that counts, only the members that begin so are the organization's.
    """

    resource: Resource
    limit: int | None
    beginning: str | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's idempotency key, what it was sent with, and the answer to give again."""

    org: str
    operation: str
    key: str
    fingerprint: str
    """Digest of the request's body."""
    answer: str
    """JSON text of the response body."""

    @property
    def stored_as(self) -> str:
        """The Redis key that holds the answer."""
        return keys.idempotency(self.org, self.operation, self.key)

    def to_script(self) -> dict[str, object]:
        """What a script that stores it has to know, beside the key's name."""
        return {"fingerprint": self.fingerprint, "answer": self.answer, "ttl_s": IDEMPOTENCY_TTL_S}


async def create(
    store: Store,
    *,
    record_key: str,
    fields: Mapping[str, str],
    lists: Mapping[str, str],
    change: tuple[str, str, str],
    open_set: str | None = None,
    idempotency: Idempotency | None = None,
    quota: Quota | None = None,
    **more: object,
) -> Creation:
    """Write a record unless one is there.

    `lists` maps the keys of sorted sets to the member to add; with a `quota`, the first of them counts against it,
    or `size` does if there is one. `change` is (kind, org, id); `more` may hold `counter` (a key to increment), `ttl_s`
    (how long the record lives, for ever without), `requires_ready` (keys of records, the first of which that exists
    must have the status `ready`) and `size` (what to count, see the script).

    Raises:
        PlatformError: `idempotency_key_reused`, when the key was used with another body; `quota_exceeded`.
    """
    kind, org, identifier = change
    answer = await store.run(
        "create",
        [record_key, idempotency.stored_as if idempotency else "", open_set or "", *lists],
        [
            script_argument(
                {
                    "call": secrets.token_hex(8),
                    "fields": dict(fields),
                    "member": f"{org} {identifier}",
                    "list_members": list(lists.values()),
                    "channel": keys.CHANGES_CHANNEL,
                    "message": change_message(kind, org, identifier),
                    "idempotency": idempotency and idempotency.to_script(),
                    "quota": _quota(next(iter(lists)), quota)
                    if quota and quota.limit and "size" not in more
                    else None,
                    **more,
                }
            )
        ],
    )
    if answer[0] == "reused":
        raise PlatformError("idempotency_key_reused")
    if answer[0] == "full" and quota and quota.limit:
        raise quota_exceeded(quota.resource, quota.limit)
    return Creation(CreationOutcome(answer[0]), answer[1] if len(answer) > 1 else None)


def _quota(counted: str, quota: Quota) -> dict[str, object]:
    told: dict[str, object] = {"list": counted, "limit": quota.limit}
    return told if quota.beginning is None else {**told, "beginning": quota.beginning}
