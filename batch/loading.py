"""The job's model, from the artifact store to a runner of it. Imports little: rows may kill it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fyretoolkit.models.runner import ModelRunner
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.settings import Settings


@dataclass(frozen=True, slots=True)
class LoadableModel:
    """What a process must know to load a model. Picklable."""

    settings: Settings
    artifact: str
    spec: Mapping[str, object]
    device_id: int
    """The GPU that it shall run on, if it takes one, by the number that CUDA gives it in this process."""

    def load(self) -> ModelRunner:
        """The model, in this process.

        Raises:
            PlatformError: as `ModelRunner.load`.
        """
        spec = ModelSpec.from_json(self.spec)
        files = open_artifacts(self.settings).open(self.artifact)
        return ModelRunner.load(
            files, spec, num_gpus=spec.resources.num_gpus, device_id=self.device_id, threads=1
        )
