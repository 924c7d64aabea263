"""A model package on this machine, by its path or as a demo model: opened and inspected as a deployment would be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.inspection import inspect
from fyretoolkit.models.package import PackageFiles, open_package
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import PROJECT_ROOT, DeploymentSettings, LimitSettings

DEMO_MODELS = PROJECT_ROOT / "configs" / "demo_models"
"""In a clone; a wheel has none."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """An open package and what its inspection found."""

    files: PackageFiles
    spec: ModelSpec


def package_path(model: str) -> Path:
    """Where the model lies: at a path, or among the demo models.

    Raises:
        PlatformError: `model_not_found`.
    """
    path = Path(model).expanduser()
    demo = DEMO_MODELS / model
    if path.exists():
        return path
    if demo.parent == DEMO_MODELS and demo.is_dir():
        return demo
    raise PlatformError(
        "model_not_found",
        f"There is neither a file or folder {model!r} nor a demo model of this name. Name a package's folder or "
        "archive, or a .onnx.",
    )


@contextmanager
def opened_package(model: str) -> Iterator[Packaged]:
    """The package; what was unpacked of an archive is there as long as the context is.

    Raises:
        PlatformError: `model_not_found`, or what `open_package` and `inspect` raise.
    """
    with tempfile.TemporaryDirectory(prefix="fyre-package-") as workdir:
        files = open_package(package_path(model), Path(workdir), LimitSettings().max_artifact_bytes)
        yield Packaged(files, inspect(files, DeploymentSettings().inspect_timeout_s))
