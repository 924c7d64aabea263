"""The requests of `scripts/bench mixed`, one at a time: what each is to be answered is what it is answered."""

from __future__ import annotations

import httpx
import pytest

from scripts.benchmarks.behaviour.mixture import digits, mixed, sentiment
from scripts.benchmarks.comparison.workloads import Reference, Workload
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("workload", [digits(), sentiment()], ids=["digits", "sentiment-v1"])
async def test_right_ones_are_answered_as_by_onnx_runtime_and_wrong_ones_refused(
    bench: Bench, workload: Workload
) -> None:
    """Each kind of wrong request has the error that is about it."""
    await bench.deploy(workload.name)

    async def ask(body: bytes) -> httpx.Response:
        answer: httpx.Response = await bench.request(
            "POST",
            f"/predict/{workload.name}",
            content=body,
            headers={"content-type": "application/json"},
        )
        return answer

    reference = Reference(workload)
    alone = []
    for number, body in enumerate(workload.bodies):
        answer = await ask(body)
        reference.check(number, answer.content)
        alone.append(answer.content)
    for entry in mixed(workload, alone):
        if entry.is_bad:
            answer = await ask(entry.body)
            assert entry.check(answer.status_code, answer.json()) is None
