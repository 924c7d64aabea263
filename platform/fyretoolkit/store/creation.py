"""Creating a record, its list entries and the answer to its idempotency key in one step.

Claim and object are one script, so there is no moment in which a crash leaves a claimed key without its object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, script_argument

IDEMPOTENCY_TTL_S = 86_400


class CreationOutcome(Enum):
    """What a call to create achieved."""

    CREATED = "created"
    """The record is new."""
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
class Idempotency:
    """A caller's idempotency key, what it was sent with, and the answer to give again."""

    org: str
    operation: str
    key: str
    fingerprint: str
    """Digest of the request's body."""
    answer: str
    """JSON text of the response body."""


async def create(
    store: Store,
    *,
    record_key: str,
    fields: Mapping[str, str],
    lists: Mapping[str, str],
    change: tuple[str, str, str],
    open_set: str | None = None,
    idempotency: Idempotency | None = None,
    **more: object,
) -> Creation:
    """Write a record unless one is there.

    `lists` maps the keys of sorted sets to the member to add (the same one for all); `change` is (kind, org, id);
    `more` may hold `counter` (a key to increment), `ttl_s` (how long the record lives, for ever without) and
    `requires_ready` (keys of records, the first of which that exists must have the status `ready`).

    Raises:
        PlatformError: `idempotency_key_reused`, when the key was used with another body.
    """
    kind, org, identifier = change
    claim = idempotency and keys.idempotency(org, idempotency.operation, idempotency.key)
    answer = await store.run(
        "create",
        [record_key, claim or "", open_set or "", *lists],
        [
            script_argument(
                {
                    "fields": dict(fields),
                    "member": f"{org} {identifier}",
                    "list_member": next(iter(lists.values())),
                    "channel": keys.CHANGES_CHANNEL,
                    "message": change_message(kind, org, identifier),
                    "idempotency": idempotency
                    and {
                        "fingerprint": idempotency.fingerprint,
                        "answer": idempotency.answer,
                        "ttl_s": IDEMPOTENCY_TTL_S,
                    },
                    **more,
                }
            )
        ],
    )
    if answer[0] == "reused":
        raise PlatformError("idempotency_key_reused")
    return Creation(CreationOutcome(answer[0]), answer[1] if len(answer) > 1 else None)
