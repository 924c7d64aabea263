"""One sender of webhooks as a process of its own, without Ray: `python -m scripts.trials.senders.process`."""

from __future__ import annotations

import asyncio
import logging

from fyretoolkit.control.webhooks import WebhookSender
from fyretoolkit.serving.exposition import NoGauges
from fyretoolkit.settings import settings
from fyretoolkit.store.connection import Store


async def main() -> None:
    """Send for as long as the process lives."""
    config = settings()
    await WebhookSender(config, Store(config.redis_url.get_secret_value()), NoGauges()).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
