"""`sha256` wherever a `model_uri` is taken; the controller's part runs in this process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.control.models import ModelReconciler
from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench, until
from tests.support.onnx_graphs import lookup
from tests.support.sentences import sentence

pytestmark = pytest.mark.anyio

RIGHT = hashlib.sha256(lookup()).hexdigest()
WRONG = hashlib.sha256(b"other").hexdigest()


@pytest.fixture
def preparer(bench: Bench) -> Preparer:
    """What the controller prepares with."""
    return Preparer(bench.services.settings, bench.services.models, bench.services.files)


@pytest.fixture
def inputs(bench: Bench) -> Path:
    """The folder that file URLs may name."""
    return Path(bench.services.settings.egress.development_file_roots[0])


@pytest.fixture
def uri(inputs: Path) -> str:
    """Where a model lies."""
    (inputs / "table.onnx").write_bytes(lookup())
    return (inputs / "table.onnx").as_uri()


async def _settled(bench: Bench, preparer: Preparer, name: str) -> dict[str, Any]:
    """The model once it is prepared."""
    services = bench.services
    epoch = await services.deployments.new_controller_epoch()
    controller = ModelReconciler(services.settings, services.models, preparer, epoch=epoch)

    async def is_done() -> bool:
        return not await controller.tick() and not controller._errands

    await until(is_done)
    model: dict[str, Any] = (await bench.request("GET", f"/models/{name}")).json()
    return model


async def _deployment(bench: Bench, **fields: Any) -> Deployment:
    """The record of a deployment that was accepted."""
    answer = await bench.create_deployment(**fields)
    assert answer.status_code == 201, answer.text
    stored = await bench.services.deployments.get(DEMO_ORG, answer.json()["id"])
    assert stored is not None
    return stored


def _is_named(error: dict[str, Any], *digests: str) -> bool:
    """Whether it is the mismatch of these digests, by their first digits."""
    shown = all(digest[:12] in error["message"] for digest in digests)
    return bool(error["code"] == "checksum_mismatch" and shown and "Correct sha256" in error["message"])


@sentence("models-20")
@pytest.mark.parametrize("is_published", [False, True])
async def test_a_model_of_other_content_is_not_registered(
    bench: Bench, preparer: Preparer, uri: str, is_published: bool
) -> None:
    """Nor published. The right digest, in either case, passes; the next publication's own counts, or none."""

    async def give(sha256: str) -> None:
        source = {"model_uri": uri, "sha256": sha256}
        if is_published:
            await bench.request("POST", "/models", json={"id": "m", "status": "training"})
            await bench.request("POST", "/models/m/publish", json=source)
        else:
            await bench.request("POST", "/models", json={"id": "m", **source})

    await give(WRONG)
    failed = await _settled(bench, preparer, "m")
    assert (failed["status"], failed["sha256"]) == ("training", None)
    assert _is_named(failed["error"], RIGHT, WRONG)
    published = await bench.request(
        "POST", "/models/m/publish", json={"model_uri": uri, "sha256": RIGHT.upper()}
    )
    assert published.status_code == 200
    ready = await _settled(bench, preparer, "m")
    assert (ready["status"], ready["error"]) == ("ready", None)


async def test_a_publication_without_a_digest_forgets_the_last_ones(
    bench: Bench, preparer: Preparer, uri: str
) -> None:
    await bench.request("POST", "/models", json={"id": "m", "model_uri": uri, "sha256": WRONG})
    await bench.request("POST", "/models/m/publish", json={"model_uri": uri})
    assert (await _settled(bench, preparer, "m"))["status"] == "ready"


@sentence("deploy-35")
async def test_a_deployment_of_other_content_fails(
    bench: Bench, preparer: Preparer, uri: str, inputs: Path
) -> None:
    """A folder has no digest: it is refused, not taken unchecked."""
    with pytest.raises(PlatformError) as caught:
        await preparer.prepare(await _deployment(bench, model_uri=uri, sha256=WRONG))
    assert _is_named({"code": caught.value.code, "message": caught.value.message}, RIGHT, WRONG)
    prepared = await preparer.prepare(await _deployment(bench, model_uri=uri, sha256=RIGHT))
    assert prepared.model == "table"
    (inputs / "package").mkdir()
    (inputs / "package" / "model.onnx").write_bytes(lookup())
    folder = (inputs / "package").as_uri()
    with pytest.raises(PlatformError, match="names a folder") as refused:
        await preparer.prepare(await _deployment(bench, model_uri=folder, sha256=RIGHT))
    assert refused.value.code == "checksum_mismatch"


@sentence("deploy-36")
async def test_a_registered_model_has_the_digest_of_its_artifact(bench: Bench) -> None:
    """It is compared at once; the file's own digest is another."""
    model = await bench.add_model("digits")
    assert model.artifact is not None
    accepted = await bench.create_deployment(model_uri="models://digits", sha256=model.artifact.upper())
    assert accepted.status_code == 201
    refused = await bench.create_deployment(model_uri="models://digits", sha256=WRONG)
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert _is_named(error, model.artifact, WRONG)
    assert [field["path"] for field in error["details"]["fields"]] == ["sha256"]
