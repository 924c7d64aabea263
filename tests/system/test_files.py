"""Uploads on the running platform: through HAProxy and Serve to the disk, and from there into jobs and deployments."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.onnx_graphs import lookup
from tests.support.platform import RunningPlatform, deployed, finished, submit, until

pytestmark = pytest.mark.system

BLOCK = os.urandom(1 << 20)
LARGE_BLOCKS = 400


def upload(client: httpx.Client, content: bytes, filename: str) -> str:
    """The URL that names the uploaded file."""
    answer = client.post("/files", content=content, params={"filename": filename})
    assert answer.status_code == 201, answer.text
    return f"fyre://files/{answer.json()['id']}"


def ingress_of(platform: RunningPlatform) -> psutil.Process:
    """The one process of the ingress replica."""
    (found,) = platform.titled("ray::ServeReplica:ingress:Ingress")
    return found


def test_a_job_and_a_deployment_over_uploads(client: httpx.Client, glosses: Path) -> None:
    """Nothing of this machine's disk is named: it could be anybody's laptop."""
    job_id = submit(client, "sentiment-v1", upload(client, glosses.read_bytes(), "glosses.jsonl"))
    ready = deployed(client, {"model_uri": upload(client, lookup(), "sent.onnx"), "region": "us-east-1"})
    assert ready["status"] == "ready", ready["error"]
    answer = client.post("/predict/sent", json={"inputs": [3]})
    assert answer.json()["results"] == [{"value": 30.0}]
    assert finished(client, job_id)["progress"]["succeeded"] == 2942


def test_a_large_upload_takes_no_memory(client: httpx.Client, platform: RunningPlatform) -> None:
    """The ingress grows by less than a fifth of it: nothing on the way reads ahead of the disk."""
    ingress = ingress_of(platform)
    before = ingress.memory_info().rss
    most, is_done = before, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_done.wait(0.01):
            most = max(most, ingress.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        answer = client.post("/files", content=(BLOCK for _ in range(LARGE_BLOCKS)), timeout=300)
    finally:
        is_done.set()
        watching.join()
    assert answer.status_code == 201, answer.text
    digest = hashlib.sha256()
    for _ in range(LARGE_BLOCKS):
        digest.update(BLOCK)
    assert answer.json()["sha256"] == digest.hexdigest()
    assert most - before < LARGE_BLOCKS * len(BLOCK) / 5
    assert client.delete(f"/files/{answer.json()['id']}").status_code == 200


def test_a_client_that_goes_away_leaves_nothing(client: httpx.Client, platform: RunningPlatform) -> None:
    """Halfway through, over a real connection."""
    folder = platform.home / "files"
    before = set(folder.iterdir()) if folder.is_dir() else set()

    class GoneError(Exception):
        """The client's own."""

    def half() -> Iterator[bytes]:
        for _ in range(20):
            yield BLOCK
        until(lambda: set(folder.iterdir()) - before, timeout_s=60, what="the half of it on the disk")
        raise GoneError

    with pytest.raises(GoneError):
        client.post("/files", content=half())
    until(lambda: set(folder.iterdir()) == before, timeout_s=60, what="the half-written file gone")
