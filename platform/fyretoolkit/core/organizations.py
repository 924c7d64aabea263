"""Organizations and the principals that act for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fyretoolkit.core.ids import new_id

PREFIX = "org"
PUBLIC_ORG = "org_public"
"""Owns the demo models: visible to every organization, changeable by none."""
DEMO_ORG = "org_demo"
"""The organization of the demo key; exists in development mode alone."""


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    PREDICT = "predict"
    WRITE = "write"
    ADMIN = "admin"
    """Keys of the own organization."""
    OPERATOR = "operator"
    """Organizations and their plans: for whoever runs the platform."""


FIRST_SCOPES = (Scope.READ, Scope.PREDICT, Scope.WRITE, Scope.ADMIN)
"""Of the key that an organization begins with."""


@dataclass(frozen=True, slots=True)
class Organization:
    """Owner of keys, models, deployments, jobs and files."""

    id: str
    name: str
    plan: str
    created: int
    order: str
    """Sorts by creation: the id itself, but for organizations whose id is fixed."""
    created_by: str = ""
    """The organization whose key made it; empty if the operator of the machine did."""
    schema: int = 1


def new_organization(name: str, plan: str, *, created: int, created_by: str = "") -> Organization:
    """A record with an id of its own."""
    identifier = new_id(PREFIX)
    return Organization(identifier, name, plan, created, order=identifier, created_by=created_by)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: an organization, through one of its keys."""

    org: str
    key_id: str
    scopes: frozenset[Scope]
    plan: str
    """The name of the organization's plan: how many requests a minute it may make."""
