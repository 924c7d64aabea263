"""Deliveries of webhooks in Redis: claimed by a sender, settled by what came of an attempt, sent again on demand.

`JobStore.finish` writes a delivery with the status that it tells of. Here it is in one of three places: the outbox
until its next attempt is due, then its lane (one for each receiver of an organization), then a sender's hands for as
long as an attempt may take. A sender that dies leaves it there, and the next one takes it: every event is sent at least
once.
Lanes are why a receiver that hangs keeps nobody waiting: rejected was one queue by time, in which what cannot be sent
now has to be read again and again by whoever looks for what can.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

from fyretoolkit.core.lifecycles import DELIVERY, DeliveryStatus, predecessors
from fyretoolkit.core.webhooks import MAX_ATTEMPTS_KEPT, Attempt, Delivery, Verdict
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, script_argument, translated
from fyretoolkit.store.records import encode_fields, from_hash

logger = logging.getLogger(__name__)

_PUT_OFF_S = 3600.0
"""Until a record that cannot be read is tried again: it says so in the platform's log each time."""
KIND = "delivery"
"""How a new delivery is named on the changes channel, and one that is to be sent again."""


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """How many deliveries may be in a sender's hands at once."""

    total: int
    of_organization: int
    of_receiver: int
    """Of one receiver (host and port) of one organization."""


@dataclass(frozen=True, slots=True)
class Silence:
    """For how long a sender may not be heard of before it is taken for dead."""

    listening_s: float
    """While its connection is there: it may be slow."""
    gone_s: float
    """Once its connection is gone. Not at once: all are, for a moment, when Redis restarts."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery in a sender's hands. `token` tells this claim from every other."""

    delivery: Delivery
    token: str

    @property
    def member(self) -> str:
        """The delivery's name in the outbox."""
        return f"{self.delivery.org} {self.delivery.id}"


class DeliveryStore:
    """The repository of deliveries."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = count(1)

    async def claim(
        self,
        sender: str,
        *,
        lease_s: float,
        silence: Silence,
        limits: ClaimLimits,
        known: Iterable[str] | None = None,
    ) -> tuple[list[Claim], bool]:
        """(what this sender is to attempt now, whether more became due than one look takes in).

        `sender` is a name of this process alone. It is heard of by claiming: what a sender has in its hands that was
        silent for too long is due again, for whoever claims next. So is what it has besides `known`, the members of the
        claims that it got: the answer to an earlier claim was lost, perhaps to this one, which the connection repeats.
        None: it cannot say. A claim that its connection gave up and that comes late, after a newer one of the same
        store object, gets nothing.
        """
        answer = await self._store.run(
            "claim_deliveries",
            [
                keys.OUTBOX,
                keys.OUTBOX_TURNS,
                keys.OUTBOX_SENDING,
                keys.OUTBOX_SENDERS,
                keys.sender_claim(sender),
            ],
            [
                script_argument(
                    {
                        "sender": sender,
                        "number": next(self._numbers),
                        "channels": keys.sender_channel(""),
                        "silence_ms": int(silence.listening_s * 1000),
                        "gone_ms": int(silence.gone_s * 1000),
                        "lease_ms": int(lease_s * 1000),
                        "limit": limits.total,
                        "of_organization": limits.of_organization,
                        "of_receiver": limits.of_receiver,
                        "deliveries": keys.delivery("%o", "%d"),
                        "lanes": keys.outbox_lanes("%o"),
                        "known": None if known is None else dict.fromkeys(known, True),
                    }
                )
            ],
        )
        is_more, *taken = answer
        claims = []
        for member, token, fields in taken:
            if claim := _read(member, token, fields):
                claims.append(claim)
            else:
                await self._put_off(member, token)
        return claims, bool(is_more)

    async def settle(self, claim: Claim, attempt: Attempt, verdict: Verdict) -> bool:
        """Log an attempt and write what it led to; False if the claim was lost meanwhile, or the delivery expired.

        Sent again because its reply was lost, the attempt is in the log twice, and nothing else is.
        """
        delivery = claim.delivery
        values: dict[str, object] = {
            "status": verdict.status,
            "attempts": delivery.attempts + 1,
            "reason": verdict.reason,
            "next_at": None,
        }
        if verdict.status is DeliveryStatus.DELIVERED:
            values["delivered_at"] = int(attempt.at + attempt.duration_ms / 1000)
        return await self._settle(
            claim.member,
            claim.token,
            attempt,
            {
                "fields": encode_fields(Delivery, values),
                "clear": [name for name, value in values.items() if value is None],
                "pause_s": verdict.pause_s,
            },
        )

    async def _put_off(self, member: str, token: str) -> None:
        """Give back a delivery whose record cannot be read, for a while.

        In hands it would be what this sender has without knowing it: claimed anew at every look. Not exhausted: a
        sender of a newer version may be able to read it.
        """
        attempt = Attempt(time.time(), 0, error="the platform cannot read the record of this delivery")
        changed = {"fields": {}, "clear": [], "pause_s": _PUT_OFF_S}
        await self._settle(member, token, attempt, changed)

    async def _settle(self, member: str, token: str, attempt: Attempt, changed: Mapping[str, object]) -> bool:
        org, delivery_id = member.split(" ")
        answer = await self._store.run(
            "settle_delivery",
            [
                keys.delivery(org, delivery_id),
                keys.delivery_attempts(org, delivery_id),
                keys.OUTBOX,
                keys.OUTBOX_SENDING,
            ],
            [
                script_argument(
                    {
                        "member": member,
                        "token": token,
                        "attempt": json.dumps(_logged(attempt)),
                        "kept": MAX_ATTEMPTS_KEPT,
                        **changed,
                    }
                )
            ],
        )
        return bool(answer == "settled")

    async def get(self, org: str, delivery_id: str) -> Delivery | None:
        """The delivery, or None if this organization has none of this id."""
        stored = await self._store.read_hash(keys.delivery(org, delivery_id))
        return from_hash(Delivery, stored) if stored else None

    async def page(
        self, org: str, job_id: str, limit: int, *, starting_after: str | None = None
    ) -> list[Delivery]:
        """A job's, newest first, all older than `starting_after`. They expire with the job, all at once."""
        ids = await self._store.read_page(keys.job_deliveries(org, job_id), limit, below=starting_after)
        stored = await self._store.read_hashes([keys.delivery(org, each) for each in ids])
        return [from_hash(Delivery, fields) for fields in stored if fields]

    async def attempts(self, org: str, delivery_id: str) -> list[Attempt]:
        """The log of a delivery, oldest first."""
        async with translated():
            stored = await cast(
                Awaitable[list[str]],
                self._store.redis.lrange(keys.delivery_attempts(org, delivery_id), 0, -1),
            )
        return [Attempt(**json.loads(text)) for text in stored]

    async def redeliver(self, org: str, delivery_id: str) -> bool:
        """Begin the delivery's schedule anew, at once; False if there is none of this id."""
        answer = await self._store.run(
            "redeliver",
            [keys.delivery(org, delivery_id), keys.OUTBOX],
            [
                script_argument(
                    {
                        "from": [DeliveryStatus.PENDING, *predecessors(DELIVERY, DeliveryStatus.PENDING)],
                        "member": f"{org} {delivery_id}",
                        "channel": keys.CHANGES_CHANNEL,
                        "message": change_message(KIND, org, delivery_id),
                    }
                )
            ],
        )
        return bool(answer == "changed")

    async def counts(self) -> Mapping[str, int]:
        """How many wait for their next attempt, due or not yet claimed, and how many are in a sender's hands."""
        async with translated():
            pipeline = self._store.redis.pipeline(transaction=False)
            pipeline.zcard(keys.OUTBOX)
            pipeline.hlen(keys.OUTBOX_SENDING)
            waiting, sending = await pipeline.execute()
        return {"waiting": waiting, "sending": sending}


def _read(member: str, token: str, fields: Sequence[str]) -> Claim | None:
    """A claim from its record; None if that is damaged: one record must not keep all others from being sent."""
    stored = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        return Claim(from_hash(Delivery, stored), token)
    except ValueError:
        logger.exception("the record of delivery %s cannot be read", member)
        return None


def _logged(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": round(attempt.at, 3),
        "duration_ms": attempt.duration_ms,
        "status_code": attempt.status_code,
        "error": attempt.error,
    }
