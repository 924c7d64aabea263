"""Organizations on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from fyretoolkit.core.organizations import Organization
from fyretoolkit.schemas.api_keys import CreatedApiKey
from fyretoolkit.schemas.names import Name
from fyretoolkit.schemas.wire import RequestModel, Resource

Plan = Annotated[
    str, Field(min_length=1, max_length=64, description="One of the plans of configs/plans.yaml.")
]

_EXAMPLE: dict[str, Any] = {
    "id": "org_01M82FQ0A1B2C3D4E5F6G7H8J8",
    "object": "organization",
    "name": "Acme",
    "plan": "pro",
    "created": 1795379900,
    "api_key": None,
}


class OrganizationCreate(RequestModel):
    """The body of `POST /organizations`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Acme", "plan": "pro"}]})

    name: Name
    plan: Plan = "free"


class OrganizationChange(RequestModel):
    """The body of `PATCH /organizations/{id}`: what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"plan": "pro"}], "minProperties": 1})

    name: Name | None = None
    plan: Plan | None = None

    @model_validator(mode="after")
    def _has_a_change(self) -> OrganizationChange:
        if self.name is None and self.plan is None:
            raise ValueError("send name or plan, or both")
        return self


class OrganizationResource(Resource):
    """An organization. `api_key` is its first key, in the answer that creates both and nowhere else."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    object: Literal["organization"] = "organization"
    name: str
    plan: str
    created: int
    api_key: CreatedApiKey | None = None

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
