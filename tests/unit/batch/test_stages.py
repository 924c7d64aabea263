"""Three stages give what one worker gives, byte for byte; and pass a shard on of which a predicting process died."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from batch import pipeline
from batch.runs import Run
from batch.stages import Carried, Item, ParseStage, PredictStage, WriteStage
from batch.worker import ShardWorker
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.models.package import files_in
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.objects.artifacts import open_artifacts
from tests.support.model_packages import load_runner, word_tokenizer
from tests.support.onnx_graphs import echo, lookup, padded_length
from tests.unit.batch.bench import Bench, run_inline
from tests.unit.batch.dead_workers import leave_mark

pytestmark = pytest.mark.anyio

NUMBERS = b'{"id": "a", "index": 1}\n{"index": 9}\n{"index": "x"}\nnot JSON\n{"index": 2}\n' * 20
SHAPES = b"[1.0]\n[1.0, 2.0]\n[3.0]\n[]\nnull\n[4.0, 5.0]\n" * 10
TEXTS = b'"a good film"\n"film"\n""\n"bad"\n5\n' * 10


def stored(bench: Bench, folder: Path, graph: bytes, tokenizer: str | None = None) -> dict[str, object]:
    """A model in the artifact store, as fields of a job."""
    spec: ModelSpec = load_runner(folder, graph, tokenizer=tokenizer).spec
    return {
        "artifact": open_artifacts(bench.settings).put(files_in(folder)).sha256,
        "spec": spec.to_json(),
    }


def by_stages(run: Run, shards: Sequence[int]) -> list[Item]:
    """What Ray Data would do, one shard after another."""
    stages = ParseStage(run), PredictStage(run), WriteStage(run)
    done = []
    for shard in shards:
        item: Item = {"shard": np.array([shard])}
        for stage in stages:
            item = stage(item)
        done.append(item)
    return done


@pytest.mark.parametrize(
    ("graph", "tokenizer", "rows"),
    [
        (lookup(), None, NUMBERS),
        (echo("float32", ["N", "M"]), None, SHAPES),
        (padded_length(), word_tokenizer(), TEXTS),
    ],
    ids=["rows that fail", "rows of several shapes", "texts"],
)
async def test_three_stages_give_the_bytes_of_one_worker(
    bench: Bench, tmp_path: Path, graph: bytes, tokenizer: str | None, rows: bytes
) -> None:
    """Results and errors, whatever is wrong with a row."""
    fields = stored(bench, tmp_path / "model", graph, tokenizer)
    outputs = []
    for work in (
        lambda run, shards, stop: run_inline(ShardWorker(run, is_niced=False), shards, stop),
        lambda run, shards, stop: by_stages(run, shards),
    ):
        job = await bench.run(await bench.create_job(rows, **fields), work=work)
        assert job.status is JobStatus.COMPLETED
        outputs.append([bench.file(job, kind).read_bytes() for kind in ("results", "errors")])
    assert outputs[0] == outputs[1]
    assert all(outputs[0])


async def test_a_shard_of_which_a_gpu_worker_died_is_worked_on_by_one_that_may(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes out of the stages unpredicted, and is given to a wary worker; the others are committed."""
    wary: list[tuple[list[int], bool]] = []

    def pooled(run: Run, shards: Sequence[int], *, is_wary: bool = False) -> list[Item]:
        wary.append((list(shards), is_wary))
        run_inline(ShardWorker(run, is_niced=False), shards, threading.Event())
        return []

    def work(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        leave_mark(run.folder, 1)
        monkeypatch.setattr(pipeline, "staged", by_stages)
        monkeypatch.setattr(pipeline, "pooled", pooled)
        pipeline._run_on_gpus(run, shards, stop)

    fields = stored(bench, tmp_path / "model", lookup())
    job = await bench.run(await bench.create_job(NUMBERS, **fields), work=work)
    assert (job.status, job.succeeded, job.failed) == (JobStatus.COMPLETED, 40, 60)
    assert wary == [([1], True)]


async def test_a_failure_passes_the_later_stages(bench: Bench, tmp_path: Path) -> None:
    """And nothing is predicted or written behind it."""
    failed = Carried(3, failure="over", rows=b"x")
    item = {name: np.array([value], dtype=object) for name, value in failed._asdict().items()}
    runs: list[Run] = []

    def work(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        runs.append(run)
        for stage in (PredictStage(run), WriteStage(run)):
            assert stage(item)["failure"].tolist() == ["over"]
        run_inline(ShardWorker(run, is_niced=False), shards, stop)

    await bench.run(await bench.create_job(NUMBERS, **stored(bench, tmp_path / "m", lookup())), work=work)
    assert runs
