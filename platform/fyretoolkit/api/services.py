"""What the routes are made of: built once by whoever serves the app, then only read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fyretoolkit.api.auth import Keyring
from fyretoolkit.api.committed_parts import CommittedParts
from fyretoolkit.api.limits import RateLimiter
from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.serving.coalescers import Coalescers
from fyretoolkit.serving.codecs import CodecCache
from fyretoolkit.serving.exposition import Exposition, Gauges, NoGauges
from fyretoolkit.serving.predict import Predictor
from fyretoolkit.serving.recording import Recorder
from fyretoolkit.serving.replica import ReplicaCall
from fyretoolkit.serving.routing import RoutingTable
from fyretoolkit.serving.waking import Alarm
from fyretoolkit.settings import Settings
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deliveries import DeliveryStore
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.downloads import DownloadSecret
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.job_queue import JobQueue
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.limits import LimitStore
from fyretoolkit.store.metrics import MetricsStore
from fyretoolkit.store.models import ModelStore
from fyretoolkit.store.nodes import NodeStore
from fyretoolkit.store.organizations import OrganizationStore
from fyretoolkit.store.webhook_secrets import WebhookSecretStore


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one ingress replica. All belong to its event loop."""

    settings: Settings
    store: Store
    keys: Keyring
    limits: RateLimiter
    api_keys: ApiKeyStore
    organizations: OrganizationStore
    models: ModelStore
    deployments: DeploymentStore
    jobs: JobStore
    queue: JobQueue
    deliveries: DeliveryStore
    webhook_secrets: WebhookSecretStore
    committed: CommittedParts
    downloads: DownloadSecret
    files: FileStore
    nodes: NodeStore
    routes: RoutingTable
    predictor: Predictor
    coalescers: Coalescers
    metrics: MetricsStore
    recorder: Recorder
    is_control_ready: Callable[[], Awaitable[dict[str, str]]]
    """For /readyz: the parts behind Redis by name (`serve`, `controller`), `ok` or what is wrong."""


def open_services(
    settings: Settings,
    call: ReplicaCall,
    is_control_ready: Callable[[], Awaitable[dict[str, str]]],
    *,
    gauges: Gauges | None = None,
) -> Services:
    """The parts of one ingress replica, around a connection of its own; the app's lifespan closes it.

    `gauges`: where a scraper finds its numbers.
    """
    store = Store(settings.redis_url.get_secret_value())
    deployments = DeploymentStore(store, settings.deployments.deleted_ttl_s)
    models = ModelStore(store)
    codecs = CodecCache(open_artifacts(settings))
    metrics = MetricsStore(store)
    has_standby = settings.standby.size > 0
    alarm = Alarm(deployments.ask_to_wake, settings.standby.wake_grace_s) if has_standby else None
    coalescers = Coalescers(call, settings.serving, settings.plans, alarm)
    exposition = Exposition(gauges or NoGauges(), coalescers.queues)
    recorder = Recorder(metrics, exposition)

    async def renewed(live: Mapping[str, str]) -> None:
        exposition.keep_only(live.keys())
        await coalescers.renewed(live)

    routes = RoutingTable(store, deployments, models, codecs, on_renewed=renewed)
    api_keys = ApiKeyStore(store)
    jobs = JobStore(store, settings.batch.job_ttl_s)
    window_s = settings.limits.rate_window_s
    refused = frozenset[str]() if settings.is_development else frozenset((DEMO_ORG,))
    return Services(
        settings=settings,
        store=store,
        keys=Keyring(api_keys, refused=refused),
        limits=RateLimiter(
            LimitStore(store, window_s), settings.plans, window_s, on_degraded=exposition.count_degraded
        ),
        api_keys=api_keys,
        organizations=OrganizationStore(store),
        models=models,
        deployments=deployments,
        jobs=jobs,
        queue=JobQueue(store),
        deliveries=DeliveryStore(store),
        webhook_secrets=WebhookSecretStore(store),
        committed=CommittedParts(jobs),
        downloads=DownloadSecret(store),
        files=FileStore(store),
        nodes=NodeStore(store),
        routes=routes,
        predictor=Predictor(routes, coalescers, settings.limits, regions=settings.regions, recorder=recorder),
        coalescers=coalescers,
        metrics=metrics,
        recorder=recorder,
        is_control_ready=is_control_ready,
    )
