"""Sending webhooks: what is due is claimed from the store, signed, posted through the guard, and settled.

Several processes do this beside one another, each by a name of its own, so that one that is killed delays nothing: what
it had in its hands is taken over by whoever notices first. Any of them may die at any instant; an attempt that was not
settled is made again, under the same `webhook-id`. A delivery reads its job and never writes it.
Source: Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

from standardwebhooks.webhooks import Webhook

from fyretoolkit.control.threads import run_in
from fyretoolkit.core.downloads import expiry_of, signed_links
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import DeliveryStatus
from fyretoolkit.core.webhooks import Attempt, Delivery, Schedule, decide, read_retry_after
from fyretoolkit.egress.pinned import Resolver
from fyretoolkit.egress.post import Answer, NotPostedError, post
from fyretoolkit.egress.transfer import Timeouts
from fyretoolkit.egress.urls import Purpose, policy_from
from fyretoolkit.schemas.deliveries import WebhookEvent
from fyretoolkit.schemas.jobs import JobResource
from fyretoolkit.serving.exposition import Gauges
from fyretoolkit.settings import Settings
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, translated
from fyretoolkit.store.deliveries import KIND, Claim, ClaimLimits, DeliveryStore, Silence
from fyretoolkit.store.downloads import DownloadSecret
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.webhook_secrets import WebhookSecretStore

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LOOK_S = 0.25
"""Between two looks, where no message came; also how a sender with something in its hands is heard of."""
_SILENCE = Silence(listening_s=5.0, gone_s=2 * _LOOK_S)
"""A sender that is taken for dead and is not repeats what it had: at least once."""
_LEASE_MARGIN_S = 30.0
_PATIENCE_S = 10.0
"""With a store that is away, before an attempt and after it: together less than the margin."""
_LISTEN_AGAIN_S = 0.1
"""Soon: who does not listen is taken for gone, and what it has in hands is sent by others too."""
_RETRY_S = 1.0
_SHOW_S = 4.0
_OUTCOMES = ("delivered", "refused", "unanswered")


class WebhookSender:
    """One sender. Belongs to one event loop; `run` goes on until it is canceled."""

    def __init__(
        self, settings: Settings, store: Store, gauges: Gauges, *, resolve: Resolver | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._gauges = gauges
        self._name = secrets.token_hex(8)
        self._deliveries = DeliveryStore(store)
        self._jobs = JobStore(store, settings.batch.job_ttl_s)
        self._secrets = WebhookSecretStore(store)
        self._link_secret = DownloadSecret(store)
        hooks = settings.webhooks
        self._schedule = Schedule(hooks.pauses_s, hooks.jitter, hooks.max_retry_after_s)
        self._limits = ClaimLimits(
            hooks.max_sending, hooks.max_sending_per_organization, hooks.max_sending_per_receiver
        )
        # Threads of its own: a name server that does not answer holds one for half a minute, cancelled or not.
        self._threads = ThreadPoolExecutor(2 * hooks.max_sending, "resolve")
        self._resolve = resolve or self._resolve_apart
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._known: dict[str, tuple[str, float]] = {}
        """What this sender has claimed and not settled, by which claim, and when its lease will have ended."""
        self._outcomes = Counter(dict.fromkeys(_OUTCOMES, 0))

    async def run(self) -> NoReturn:
        """Send what is due, as soon as a message says so and at every look."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._claim())
                group.create_task(self._show())
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            self._threads.shutdown(wait=False)
        raise RuntimeError("the sender of webhooks ended")

    async def look(self) -> bool:
        """Begin every attempt that is due and that the limits allow. True if more may be due at once."""
        lease_s = self._settings.webhooks.timeout_s + _LEASE_MARGIN_S
        now = time.monotonic()
        self._known = {member: known for member, known in self._known.items() if known[1] > now}
        claims, is_more = await self._deliveries.claim(
            self._name,
            lease_s=lease_s,
            silence=_SILENCE,
            limits=self._limits,
            known=self._known,
        )
        for claim in claims:
            self._known[claim.member] = claim.token, time.monotonic() + lease_s
            task = asyncio.get_running_loop().create_task(self._send(claim))
            self._sending.add(task)
            task.add_done_callback(self._ended)
        return is_more

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._wake.set()  # there is room for another one

    async def _claim(self) -> NoReturn:
        while True:
            self._wake.clear()
            try:
                pause_s = 0.0 if await self.look() else _LOOK_S
            except PlatformError as error:
                logger.warning("webhooks: a look at the store failed: %s", error)
                pause_s = _RETRY_S
            except Exception:
                logger.exception("webhooks: a look failed; the next one looks anew")
                pause_s = _RETRY_S
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                continue

    async def _listen(self) -> NoReturn:
        """Look as soon as a job with a webhook ended. Messages may be missed: the clock looks as well."""
        while True:
            try:
                channel = keys.sender_channel(self._name)
                async with self._store.subscribe(channel) as changes, translated():
                    self._wake.set()
                    async for message in changes.listen():
                        if json.loads(message["data"])["kind"] == KIND:
                            self._wake.set()
            except PlatformError as error:
                logger.warning("webhooks: listening for changes failed: %s", error)
            except Exception:
                logger.exception("webhooks: listening for changes failed")
            await asyncio.sleep(_LISTEN_AGAIN_S)

    async def _show(self) -> NoReturn:
        while True:
            for outcome, count in self._outcomes.items():
                self._gauges.set("fyre_webhook_attempts_total", count, {"outcome": outcome})
            await asyncio.sleep(_SHOW_S)

    async def _send(self, claim: Claim) -> None:
        """One attempt, settled whatever comes of it. With the store away for long, it is made again after its lease."""
        delivery = claim.delivery
        try:
            attempt = await self._attempt(delivery)
            verdict = decide(
                delivery.attempts + 1,
                attempt,
                self._schedule,
                chance=random.random(),  # noqa: S311 - jitter
            )
            if await _patiently(lambda: self._deliveries.settle(claim, attempt, verdict)):
                self._forget(claim)
        except PlatformError as error:
            logger.warning("delivery %s was not settled: %s", delivery.id, error)
            return
        self._outcomes[_outcome(attempt)] += 1
        if verdict.status is DeliveryStatus.EXHAUSTED:
            logger.info("delivery %s of %s is exhausted: %s", delivery.id, delivery.org, verdict.reason)

    def _forget(self, claim: Claim) -> None:
        """It is settled. Sent again by hand, the delivery may be in hands anew by the time that is known."""
        token, _ = self._known.get(claim.member, ("", 0.0))
        if token == claim.token:
            del self._known[claim.member]

    async def _attempt(self, delivery: Delivery) -> Attempt:
        """What came of one request.

        Raises:
            PlatformError: `unavailable`, the store is away; nothing was sent.
        """
        try:
            body = await _patiently(lambda: self._event(delivery))
            if body is None:
                return Attempt(time.time(), 0, error="the job has expired")
            secret = await _patiently(lambda: self._secrets.get(delivery.org))
            return await self._post(delivery, body, secret.signing(time.time()))
        except PlatformError:
            raise
        except Exception:
            logger.exception("delivery %s: the attempt failed in an unforeseen way", delivery.id)
            return Attempt(time.time(), 0, error="the platform failed to send it")

    async def _event(self, delivery: Delivery) -> str | None:
        """The body; None if the job is gone."""
        job = await self._jobs.get(delivery.org, delivery.job)
        if job is None:
            return None
        links = {}
        # In production mode a platform without a public URL knows no address that a receiver could follow.
        is_here = f"http://localhost:{self._settings.port}" if self._settings.is_development else None
        if job.has_results and (base_url := self._settings.public_url or is_here):
            links = signed_links(
                job.org,
                job.id,
                base_url=base_url,
                expires=expiry_of(self._settings.downloads.url_ttl_s, now=time.time()),
                secret=await self._link_secret.get(),
            )
        resource = JobResource.from_record(job, links=links, job_ttl_s=self._settings.batch.job_ttl_s)
        return WebhookEvent.of(delivery, resource).to_json()

    async def _post(self, delivery: Delivery, body: str, signing: Sequence[str]) -> Attempt:
        at, began = time.time(), time.monotonic()
        headers = signed_headers(delivery.id, body, signing, now=at)
        timeout_s = self._settings.webhooks.timeout_s
        connect_s = min(self._settings.egress.connect_timeout_s, timeout_s)
        answer: Answer | None = None
        error = None
        try:
            answer = await post(
                delivery.url,
                body.encode("utf-8"),
                headers,
                policy=policy_from(self._settings, Purpose.WEBHOOK),
                timeouts=Timeouts(connect_s, timeout_s, timeout_s),
                resolve=self._resolve,
            )
        except NotPostedError as failure:
            error = str(failure)
        except PlatformError as refusal:
            error = refusal.message
        return Attempt(
            at,
            int((time.monotonic() - began) * 1000),
            status_code=answer.status if answer else None,
            error=error,
            retry_after_s=read_retry_after(answer.retry_after, now=time.time()) if answer else None,
        )

    async def _resolve_apart(self, host: str, port: int) -> Sequence[str]:
        answers = await run_in(self._threads, socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return [str(address[0]) for *_, address in answers]


def signed_headers(delivery_id: str, body: str, signing: Sequence[str], *, now: float) -> dict[str, str]:
    """The headers of one attempt: the same id each time, the time of this one, a signature with each secret."""
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = [Webhook(secret).sign(delivery_id, at, body) for secret in signing]
    return {
        "Content-Type": "application/json",
        "User-Agent": "FyreToolkit-Webhooks/1",
        "Accept": "*/*",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer, asked for again while the store is away for a short time, as when it restarts.

    Raises:
        PlatformError: `unavailable`.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await call()
        except PlatformError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(_RETRY_S)


def _outcome(attempt: Attempt) -> str:
    if attempt.is_delivered:
        return "delivered"
    return "unanswered" if attempt.status_code is None else "refused"
