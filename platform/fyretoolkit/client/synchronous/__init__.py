"""The client without asyncio: generated from `asynchronous/` by `scripts/describe`, never edited."""
