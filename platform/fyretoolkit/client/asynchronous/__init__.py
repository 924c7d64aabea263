"""The client for asyncio, and the source from which the other one is generated: `scripts/describe` writes it anew.

A name that begins with `Async` or `async_` has a twin without; nothing here may depend on asyncio but through
`seams.py`.
"""
