"""Deployments and jobs over what lies in a bucket, on the running platform and a real S3 server."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import OPEN_BUCKET
from tests.support.onnx_graphs import lookup
from tests.support.platform import deployed, finished, lines, submit
from tests.support.s3_server import S3Server
from tests.support.sentences import sentence

pytestmark = pytest.mark.system


@sentence("deploy-8")
def test_a_model_in_a_bucket_is_deployed(client: httpx.Client, s3: S3Server) -> None:
    """The controller's process reads it with the credentials of the environment; other buckets stay closed."""
    s3.put(f"{OPEN_BUCKET}/tables/by-bucket/model.onnx", lookup())
    source = {"model_uri": f"s3://{OPEN_BUCKET}/tables/by-bucket/", "region": "us-east-1"}
    ready = deployed(client, source)
    assert (ready["status"], ready["model"]) == ("ready", "by-bucket"), ready["error"]
    answer = client.post("/predict/by-bucket", json={"inputs": [3]})
    assert answer.json()["results"] == [{"value": 30.0}]
    client.delete(f"/deployments/{ready['id']}")
    missing = deployed(client, {**source, "model_uri": f"s3://{OPEN_BUCKET}/none.onnx"})
    assert (missing["status"], missing["error"]["code"]) == ("failed", "artifact_not_found")
    closed = client.post("/deployments", json={**source, "model_uri": "s3://closed/model.onnx"})
    assert (closed.status_code, closed.json()["error"]["code"]) == (422, "url_not_allowed")


@sentence("batch-21")
def test_a_job_over_an_object(client: httpx.Client, s3: S3Server) -> None:
    """Its format by its name; the results in its order."""
    s3.put(f"{OPEN_BUCKET}/rows/reviews.csv", b"text\na fine film\na dull film\n")
    job_id = submit(client, "sentiment-v1", f"s3://{OPEN_BUCKET}/rows/reviews.csv")
    job = finished(client, job_id)
    assert job["progress"]["succeeded"] == 2, job
    assert [line["index"] for line in lines(client, job["output_url"])] == [0, 1]
