# Generated from ../asynchronous/webhooks.py by scripts/describe: change that one.
"""`client.webhooks`: the secret that signs them, and their verification by whoever receives them."""

from __future__ import annotations

from collections.abc import Mapping

from fyretoolkit.client.calls import get, post
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.client.webhooks import WebhookEvent, unwrap
from fyretoolkit.schemas.deliveries import WebhookSecretResource

_SECRET = "/webhook_secret"  # noqa: S105 - a path


class Webhooks:
    """Webhooks of the caller's organization."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def secret(self) -> WebhookSecretResource:
        """What they are signed with, for a key with the scope admin."""
        return self._transport.fetch(get(_SECRET), WebhookSecretResource)

    def rotate_secret(self, *, overlap_s: int | None = None) -> WebhookSecretResource:
        """A new secret; the old one signs beside it for `overlap_s`, a day unless it is said."""
        call = post(f"{_SECRET}/rotate", is_repeatable=False, overlap_s=overlap_s)
        return self._transport.fetch(call, WebhookSecretResource)

    def unwrap(self, body: bytes | str, headers: Mapping[str, str], secret: str) -> WebhookEvent:
        """The event in a webhook that was received, if it was signed with this secret.

        `body`: as it came, before it is parsed.

        Raises:
            WebhookVerificationError: answer 400 and do nothing.
        """
        return unwrap(body, headers, secret)
