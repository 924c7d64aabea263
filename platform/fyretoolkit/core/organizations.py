"""Organizations and the principals that act for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Organization:
    """Owner of keys, models, deployments, jobs and files."""

    id: str
    name: str
    plan: str
    created: int
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: an organization, through one of its keys."""

    org: str
    key_id: str
    scopes: frozenset[Scope]
    plan: str
    """The name of the organization's plan: how many requests a minute it may make."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key: the secret itself is never kept, only the SHA-256 of the whole key."""

    id: str
    org: str
    digest: str
    scopes: tuple[Scope, ...]
    name: str
    created: int
    is_revoked: bool = False
