"""Codecs of the models in the routing table, built once for each artifact.

Building one reads the tokenizer from disk, so it happens while the table is refreshed and never on a request's path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from typing import Any

from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.models.codec import Codec
from fyretoolkit.models.spec import ModelSpec


class CodecCache:
    """Codecs by artifact digest. Not thread-safe: it belongs to one event loop."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._codecs: dict[str, Codec] = {}

    async def get(self, artifact: str, spec: Mapping[str, Any]) -> Codec:
        """The codec of a package.

        Raises:
            PlatformError: the artifact is gone, or its tokenizer is not usable.
        """
        if artifact not in self._codecs:
            self._codecs[artifact] = await asyncio.to_thread(self._build, artifact, spec)
        return self._codecs[artifact]

    def keep_only(self, artifacts: Set[str]) -> None:
        """Forget the codecs of all other artifacts."""
        self._codecs = {name: codec for name, codec in self._codecs.items() if name in artifacts}

    def _build(self, artifact: str, spec: Mapping[str, Any]) -> Codec:
        model_spec = ModelSpec.from_json(spec)
        if model_spec.tokenizer is None:
            return Codec(model_spec)
        path = self._artifacts.open(artifact).tokenizer
        return Codec(model_spec, path.read_text("utf-8") if path else None)
