"""What an organization's webhooks are signed with: made when it is first asked for, the same for all who ask at once.

It is kept as it is, unlike an API key: a signature needs the secret itself. It is read at every attempt and never
remembered, so that a rotation holds for the next attempt.
"""

from __future__ import annotations

import json
import time

from fyretoolkit.core.webhooks import EarlierSecret, WebhookSecret, new_secret
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, script_argument

_KEPT = 8
"""Earlier secrets that sign beside the newest: each is one more signature in a header."""


class WebhookSecretStore:
    """The repository of webhook secrets."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, org: str) -> WebhookSecret:
        """The organization's secret, made now if it has none."""
        stored = await self._store.read_hash(keys.webhook_secret(org))
        if stored:
            return _secret(stored["secret"], stored["created"], stored.get("earlier", ""))
        return await self._write(org, None)

    async def rotate(self, org: str, *, overlap_s: int) -> WebhookSecret:
        """Put a new secret in the place of the one before, which signs beside it for `overlap_s`."""
        return await self._write(org, overlap_s)

    async def _write(self, org: str, overlap_s: int | None) -> WebhookSecret:
        argument = script_argument(
            {"secret": new_secret(), "created": int(time.time()), "overlap_s": overlap_s, "kept": _KEPT}
        )
        answer = await self._store.run("rotate_webhook_secret", [keys.webhook_secret(org)], [argument])
        return _secret(*answer)


def _secret(secret: str, created: str, earlier: str) -> WebhookSecret:
    replaced = tuple(EarlierSecret(**each) for each in json.loads(earlier or "[]"))
    return WebhookSecret(secret, int(created), replaced)
