"""How much of each kind one organization may have; checked in the step that creates one more."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from fyretoolkit.core.errors import PlatformError


class Resource(StrEnum):
    """What an organization may not have any number of, named as in the settings section `quotas`."""

    API_KEYS = "api_keys"
    """Active ones."""
    MODELS = "models"
    """All of them: they are never deleted."""
    DEPLOYMENTS = "deployments"
    """Those that are not deleted."""
    FILE_BYTES = "file_bytes"
    """Bytes of uploaded files on the disk."""
    QUEUED_JOBS = "queued_jobs"
    """Batch jobs that no run has begun yet."""


_REFUSALS: Mapping[Resource, str] = MappingProxyType({
    Resource.API_KEYS: "active API keys. Revoke one with DELETE /api_keys/{id}, or rotate one with overlap_s 0.",
    Resource.MODELS: "models, archived ones included. Ask the operator to raise quotas.models.",
    Resource.DEPLOYMENTS: "deployments. Delete one with DELETE /deployments/{id}.",
    Resource.QUEUED_JOBS: "queued batch jobs. Wait until some began, or cancel one with POST /jobs/{id}/cancel.",
    Resource.FILE_BYTES: "bytes of files. Delete files that are not needed with DELETE /files/{id}.",
})  # fmt: skip


def quota_exceeded(resource: Resource, limit: int) -> PlatformError:
    """The refusal of one more, which says what to do."""
    return PlatformError(
        "quota_exceeded",
        f"An organization may have {limit} {_REFUSALS[resource]}",
        details={"resource": resource, "limit": limit},
    )
