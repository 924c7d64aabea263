"""The Python client: `Client` and `AsyncClient`, what they answer, and what they raise.

The answers that have no methods of their own are the wire models of `schemas/`, under the names that they have here.
"""

from __future__ import annotations

from fyretoolkit.client.asynchronous.client import AsyncClient
from fyretoolkit.client.asynchronous.deployments import AsyncDeployment
from fyretoolkit.client.asynchronous.jobs import AsyncJob
from fyretoolkit.client.asynchronous.pages import AsyncPage
from fyretoolkit.client.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    DeploymentFailedError,
    FyreError,
    InvalidRequestError,
    MissingPackageError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
    UnprocessableError,
    WaitTimeoutError,
    WebhookVerificationError,
)
from fyretoolkit.client.inputs import Inputs
from fyretoolkit.client.predictions import Prediction
from fyretoolkit.client.records import JobError, JobResult
from fyretoolkit.client.synchronous.client import Client
from fyretoolkit.client.synchronous.deployments import Deployment
from fyretoolkit.client.synchronous.jobs import Job
from fyretoolkit.client.synchronous.pages import Page
from fyretoolkit.client.webhooks import EventJob, WebhookEvent, unwrap
from fyretoolkit.schemas.api_keys import ApiKeyResource, CreatedApiKey
from fyretoolkit.schemas.deliveries import DeliveryResource, WebhookSecretResource
from fyretoolkit.schemas.deployments import Event
from fyretoolkit.schemas.files import DeletedFile, FileResource
from fyretoolkit.schemas.metrics import MetricsResource
from fyretoolkit.schemas.models import ModelResource
from fyretoolkit.schemas.nodes import NodeResource
from fyretoolkit.schemas.organizations import OrganizationResource

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "ApiKeyResource",
    "AsyncClient",
    "AsyncDeployment",
    "AsyncJob",
    "AsyncPage",
    "AuthenticationError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "CreatedApiKey",
    "DeletedFile",
    "DeliveryResource",
    "Deployment",
    "DeploymentFailedError",
    "Event",
    "EventJob",
    "FileResource",
    "FyreError",
    "Inputs",
    "InvalidRequestError",
    "Job",
    "JobError",
    "JobResult",
    "MetricsResource",
    "MissingPackageError",
    "ModelResource",
    "NodeResource",
    "NotFoundError",
    "OrganizationResource",
    "Page",
    "PermissionDeniedError",
    "Prediction",
    "RateLimitError",
    "ServerError",
    "UnexpectedResponseError",
    "UnprocessableError",
    "WaitTimeoutError",
    "WebhookEvent",
    "WebhookSecretResource",
    "WebhookVerificationError",
    "unwrap",
]
