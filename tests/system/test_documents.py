"""Every document does what it says: its blocks are run as they stand, on the running platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.documents import carry_out, documents_that_end_it
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system


def _deployments(client: httpx.Client) -> list[tuple[Any, ...]]:
    """What a document must leave as it found it: the platform is that of all tests."""
    listed = client.get("/deployments", params={"limit": 100}).json()["data"]
    return [
        (each["id"], each["traffic"], each["replicas"]["desired"], each["autoscaling"]) for each in listed
    ]


@pytest.mark.parametrize("document", documents_that_end_it(is_wanted=False))
def test_a_document_does_what_it_says(
    document: str, platform: RunningPlatform, client: httpx.Client, tmp_path: Path
) -> None:
    """Each command succeeds, each answer that is shown is given, and the deployments are as before."""
    before = _deployments(client)
    carry_out(document, platform, tmp_path)
    assert _deployments(client) == before
