"""What the routes are made of: built once by whoever serves the app, then only read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fyretoolkit.api.auth import DEMO_KEY_ID, Keyring
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.serving.codecs import CodecCache
from fyretoolkit.serving.predict import Predictor
from fyretoolkit.serving.replica import ReplicaCall
from fyretoolkit.serving.routing import RoutingTable
from fyretoolkit.settings import Settings
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.models import ModelStore


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one ingress replica. All belong to its event loop."""

    settings: Settings
    store: Store
    keys: Keyring
    models: ModelStore
    deployments: DeploymentStore
    jobs: JobStore
    routes: RoutingTable
    predictor: Predictor
    is_control_ready: Callable[[], Awaitable[dict[str, str]]]
    """For /readyz: the parts behind Redis by name (`serve`, `controller`), `ok` or what is wrong."""


def open_services(
    settings: Settings, call: ReplicaCall, is_control_ready: Callable[[], Awaitable[dict[str, str]]]
) -> Services:
    """The parts of one ingress replica, around a connection of its own; the app's lifespan closes it."""
    store = Store(settings.redis_url.get_secret_value())
    deployments = DeploymentStore(store, settings.deployments.deleted_ttl_s)
    models = ModelStore(store)
    codecs = CodecCache(ArtifactStore(settings.artifacts_dir))
    routes = RoutingTable(store, deployments, models, codecs, on_renewed=call.forget)
    refused = frozenset[str]() if settings.is_development else frozenset((DEMO_KEY_ID,))
    return Services(
        settings=settings,
        store=store,
        keys=Keyring(ApiKeyStore(store), refused=refused),
        models=models,
        deployments=deployments,
        jobs=JobStore(store, settings.batch.job_ttl_s),
        routes=routes,
        predictor=Predictor(routes, call, settings.limits, regions=settings.regions),
        is_control_ready=is_control_ready,
    )
