"""Every artifact that nobody can serve ends with its own code, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.inspection import Inspector
from fyretoolkit.models.package import open_package
from tests.support.broken_artifacts import LOCAL, BrokenArtifact

MAX_BYTES = 16 << 20
TIMEOUT_S, SHORT_TIMEOUT_S = 60.0, 1.0


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    """One for all, as the controller has it; nothing of it is left in the end."""
    before = {child.pid for child in psutil.Process().children()}
    made = Inspector()
    yield made
    made.close()
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.parametrize("artifact", LOCAL, ids=[artifact.name for artifact in LOCAL])
def test_each_broken_artifact_has_its_code(
    tmp_path: Path, artifact: BrokenArtifact, inspector: Inspector
) -> None:
    """A message comes with it that names no path of this machine, and nothing is written beside the artifact."""
    source, workdir = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    workdir.mkdir()
    path = artifact.write(source, MAX_BYTES)
    before = sorted(source.rglob("*"))
    with pytest.raises(PlatformError) as refused:
        inspector.inspect(
            open_package(path, workdir, MAX_BYTES), SHORT_TIMEOUT_S if artifact.is_slow else TIMEOUT_S
        )
    assert refused.value.code == artifact.code
    assert refused.value.message
    assert str(tmp_path) not in refused.value.message
    assert sorted(source.rglob("*")) == before
