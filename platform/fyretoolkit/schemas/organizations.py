"""Organizations on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from fyretoolkit.core.organizations import Organization
from fyretoolkit.schemas.api_keys import CreatedApiKey
from fyretoolkit.schemas.fields import left_out
from fyretoolkit.schemas.names import Name
from fyretoolkit.schemas.wire import RequestModel, Resource

Plan = Annotated[
    str, Field(min_length=1, max_length=64, description="One of the plans of configs/plans.yaml.")
]


class OrganizationCreate(RequestModel):
    """The body of `POST /organizations`."""

    name: Name
    plan: Plan = "free"


class OrganizationChange(RequestModel):
    """The body of `PATCH /organizations/{id}`: what is left out stays as it is; null is refused."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Name = Field(default_factory=left_out)
    plan: Plan = Field(default_factory=left_out)

    @model_validator(mode="after")
    def _has_a_change(self) -> OrganizationChange:
        if not self.model_fields_set:
            raise ValueError("send name or plan, or both")
        return self


class OrganizationResource(Resource):
    """An organization. `api_key` is its first key, in the answer that creates both and nowhere else."""

    id: str
    """The organization's id."""
    object: Literal["organization"] = "organization"
    """Always `organization`."""
    name: str
    """For people: shown in lists."""
    plan: str
    """The plan that its keys are limited by."""
    created: int
    """When it was created, in Unix seconds."""
    api_key: CreatedApiKey | None = None
    """Its first key, in the answer that creates it; else null."""

    @classmethod
    def from_record(
        cls, organization: Organization, api_key: CreatedApiKey | None = None
    ) -> OrganizationResource:
        """The stored organization as an operator sees it."""
        return cls(
            id=organization.id,
            name=organization.name,
            plan=organization.plan,
            created=organization.created,
            api_key=api_key,
        )
