"""Settings: read once at the start of a process, frozen, passed down.

Two sources: the environment for what differs between two copies on one machine (home, port, Redis, mode), and
`configs/platform.yaml` for what an operator tunes. Ray hands the environment of `ray start` to every worker, so all
processes of one platform read the same values. Secrets are `SecretStr`: they print as `**********`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from fyretoolkit.core import api_keys
from fyretoolkit.core.exposure import LOOPBACK, check_exposure, parse_host, parse_public_url
from fyretoolkit.core.regions import check_selector
from fyretoolkit.sections import Delay, Positive, Seconds, Section, WebhookSettings

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEMO_KEY = api_keys.DEMO_KEY

DEFAULT_REGIONS: Mapping[str, dict[str, str]] = {
    "us-east-1": {},
    "us-west-2": {},
    "eu-west-1": {},
    "ap-southeast-1": {},
}


class IngressSettings(Section):
    """The HTTP front: how many replicas, and what each reserves."""

    replicas: Positive = 1
    num_cpus: float = 0.1
    log_predictions: bool = False
    """Whether a prediction that was answered has a line in the log too, as every other request has."""


class PlanSettings(Section):
    """Requests a window that one key may make, by category; None: no limit."""

    read: Positive | None
    write: Positive | None
    inference: Positive | None
    weight: float = Field(default=1.0, gt=0)
    """Share of a busy deployment that an organization has beside others who use it."""


class LimitSettings(Section):
    """The largest request, artifact and deadline accepted."""

    rate_window_s: Positive = 60
    max_body_bytes: Positive = 16 << 20
    max_inputs: Positive = 1024
    default_timeout_ms: Positive = 10_000
    max_timeout_ms: Positive = 60_000
    max_artifact_bytes: Positive = 512 << 20


class ServingSettings(Section):
    """The queue of each deployment in each ingress replica."""

    calls_per_replica: Positive = 2
    """Calls in flight: one runs while the next is on its way."""
    call_s: Seconds = 0.005
    """What a model runs within this time may travel in one call, though it runs row by row."""
    max_wait_s: Seconds = 1.0
    """A request that would wait longer is refused at once, unless it fits the next calls."""
    max_queued: Positive = 4096
    max_queued_bytes: Positive = 256 << 20
    max_retry_after_s: Seconds = 30
    wake_timeout_s: Seconds = 120
    """How long one call waits for a deployment to start its first replica."""
    max_body_bytes_held: Positive = 512 << 20
    """Bodies of predictions that one ingress replica holds at a time."""


class AutoscalingSettings(Section):
    """When a deployment with bounds gets more replicas, and when fewer (`core.autoscaling`)."""

    target_wait_s: Seconds = 0.1
    """Requests that wait longer in an ingress's queue call for more replicas."""
    target_utilization: float = Field(default=0.7, gt=0, le=1)
    """Share of its time that a replica's model computes, aimed at where requests do not wait."""
    window_s: Seconds = 3
    """The time that replicas report on."""
    report_interval_s: float = Field(default=1, gt=0, le=3)
    """How often replicas and ingresses report to Serve. A report of over 10 s ago counts no more."""
    upscale_delay_s: Delay = 2
    """How long more must be wanted. Above `report_interval_s`, so that one report does not decide."""
    downscale_delay_s: Delay = 30
    downscale_to_zero_delay_s: Delay = 300
    """From the last replica to none, for deployments with min_replicas 0."""


class DeploymentSettings(Section):
    """Bounds of each stage of a deployment."""

    num_cpus: float = 0.1
    fetch_timeout_s: Seconds = 120
    inspect_timeout_s: Seconds = 10
    """Of a model in its probe, once that is ready."""
    place_timeout_s: Seconds = 15
    """How long a first replica may lack room, where the caller named no `max_wait_s`."""
    load_timeout_s: Seconds = 90
    deleted_ttl_s: Positive = 86_400


class StandbyShape(Section):
    """What a replica that stands by reserves."""

    num_cpus: Annotated[float, Field(gt=0)] | None = None
    """None: as a deployment whose manifest does not say."""
    num_gpus: float = Field(default=0.0, ge=0)
    accelerator_type: str | None = None


class StandbySettings(Section):
    """Replicas without a model, for deployments that come and for those that wake (`core.standby`)."""

    size: int = Field(default=1, ge=0, le=100)
    """Of each shape in each group of regions that share their nodes; 0: none. Each takes about 255 MB."""
    shapes: tuple[StandbyShape, ...] = (StandbyShape(),)
    wake_grace_s: Seconds = 0.5
    """How long a deployment without replicas waits to be given one of these before it starts one of its own."""


class BatchSettings(Section):
    """The share of the machine that batch jobs take, and the caps on their input."""

    max_running_jobs: Positive = 3
    max_running_jobs_per_organization: Positive = 2
    """Fewer than in all: an organization's long jobs leave a slot to the others."""
    standby_runners: int = Field(default=1, ge=0, le=100)
    workers: Positive = 2
    worker_num_cpus: float = 0.5
    worker_niceness: int = 19
    shard_s: Seconds = 1
    """How long a worker shall be busy with a shard."""
    shard_min_bytes: Positive = 4 << 10
    shard_target_bytes: Positive = 4 << 20
    """At most, however quick the model is, and where its speed is not known: a worker holds a shard in memory."""
    rows_per_call: Positive = 256
    row_timeout_s: Seconds = 60
    """Of processor time, for a row that is tried alone because a worker died or hung at its shard."""
    max_line_bytes: Positive = 1 << 20
    max_columns: Positive = 1000
    max_input_bytes: Positive = 10 << 30
    max_rows: Positive = 100_000_000
    """Of one job. Bytes do not bound them: a row may have two."""
    lease_s: Seconds = 4
    max_runs: Positive = 20
    job_ttl_s: Positive = 30 * 86_400


class FileSettings(Section):
    """Files that callers upload."""

    max_bytes: Positive = 10 << 30
    ttl_s: Positive = 30 * 86_400
    min_free_bytes: int = Field(default=256 << 20, ge=0)
    """Uploads are refused, models and batch jobs fail before the disk is fuller than that: Redis writes to it too."""
    min_bytes_per_s: Positive = 1024
    """Uploads that are slower for a minute are ended: each holds a request of the ingress."""


class QuotaSettings(Section):
    """How much one organization may have (`core.quotas.Resource`); None: any number."""

    api_keys: Positive | None = 100
    models: Positive | None = 1000
    deployments: Positive | None = 200
    file_bytes: Positive | None = 100 << 30
    queued_jobs: Positive | None = 1000


class DownloadSettings(Section):
    """Links that need no key."""

    url_ttl_s: Positive = 3600


class S3Settings(Section):
    """How S3, or a service like it, is reached. Credentials are those that AWS's own tools would find."""

    endpoint: str | None = Field(default=None, pattern=r"^https?://[A-Za-z0-9.\[\]:_-]+$")
    """The address of another service than AWS's, such as `https://minio.example:9000`; None: AWS."""
    region: str | None = None
    """None: as the environment says, else us-east-1."""
    anonymous: bool = False
    """Whether nobody's credentials are sent."""


BucketRoot = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s]+)*/?$")]
"""A bucket, or a bucket and the beginning of keys in it up to a slash: `bucket/prefix`."""


class S3SourceSettings(S3Settings):
    """The buckets that callers may name. The platform's own credentials read them, so nothing is open by itself."""

    roots: tuple[BucketRoot, ...] = ()
    write_roots: tuple[BucketRoot, ...] = ()
    """Where drivers (`batch.run`) may have results written, with the same credentials."""


class EgressSettings(Section):
    """What the platform may fetch on a caller's behalf."""

    connect_timeout_s: Seconds = 5
    read_timeout_s: Seconds = 30
    total_timeout_s: Seconds = 3600
    min_bytes_per_s: int = Field(default=1024, ge=0)
    """Of an HTTP source, over each minute."""
    max_redirects: int = 3
    ports: tuple[int, ...] = (80, 443)
    development_file_roots: tuple[Path, ...] = ()
    s3: S3SourceSettings = S3SourceSettings()


class ArtifactSettings(Section):
    """Where models are kept by content."""

    url: str | None = Field(
        default=None, pattern=r"^(file:///[^?#%]*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s?#%]+)*/?)$"
    )
    """`s3://bucket/prefix`, which every node reaches, or `file:///folder`; None: a folder beneath FYRE_HOME."""
    s3: S3Settings = S3Settings()
    cache_bytes: Positive = 20 << 30
    """Of object storage alone: what a node keeps of it, least recently used first out."""


REQUIRED_PLANS = ("free", "development")
"""Of organizations that named none, and of the demo key."""
DEFAULT_PLANS: Mapping[str, PlanSettings] = {
    "free": PlanSettings(read=120, write=60, inference=600),
    "pro": PlanSettings(read=120, write=60, inference=60_000),
    "development": PlanSettings(read=120, write=60, inference=1_000_000),
    "unlimited": PlanSettings(read=None, write=None, inference=None),
}


def _readable(selector: dict[str, str]) -> dict[str, str]:
    check_selector(selector)
    return selector


class PlatformConfig(Section):
    """`configs/platform.yaml`."""

    regions: dict[str, Annotated[dict[str, str], AfterValidator(_readable)]] = Field(
        default_factory=lambda: dict(DEFAULT_REGIONS)
    )
    ingress: IngressSettings = IngressSettings()
    limits: LimitSettings = LimitSettings()
    serving: ServingSettings = ServingSettings()
    autoscaling: AutoscalingSettings = AutoscalingSettings()
    deployments: DeploymentSettings = DeploymentSettings()
    standby: StandbySettings = StandbySettings()
    batch: BatchSettings = BatchSettings()
    webhooks: WebhookSettings = WebhookSettings()
    egress: EgressSettings = EgressSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    files: FileSettings = FileSettings()
    quotas: QuotaSettings = QuotaSettings()
    downloads: DownloadSettings = DownloadSettings()


class Settings(PlatformConfig):
    """Everything a process of the platform needs to know about where and how it runs."""

    home: Path
    """Durable state of this copy: Redis data, artifacts, jobs."""
    mode: Literal["development", "production"] = "development"
    host: str = LOOPBACK
    """The address on which HAProxy serves the API, besides loopback."""
    port: int = 8000
    is_tls_terminated: bool = False
    """Whether a proxy in front speaks TLS with the callers."""
    public_url: str | None = None
    """Where callers reach the API, without a trailing slash; None: as they name it themselves."""
    redis_url: SecretStr
    channels_dir: Path | None = None
    """Where the replicas of this machine listen (`serving.channel`); None: every call goes through Serve."""
    plans: dict[str, PlanSettings] = Field(default_factory=lambda: dict(DEFAULT_PLANS))

    _parse_host = field_validator("host")(parse_host)

    @field_validator("public_url")
    @classmethod
    def _parse_public_url(cls, given: str | None) -> str | None:
        return parse_public_url(given) if given else None

    @field_validator("plans")
    @classmethod
    def _check_plans(cls, given: dict[str, PlanSettings]) -> dict[str, PlanSettings]:
        if missing := [name for name in REQUIRED_PLANS if name not in given]:
            raise ValueError(
                f"The plans file lacks {' and '.join(missing)}. Add them, or leave FYRE_PLANS out."
            )
        return given

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        check_exposure(
            is_development=self.is_development,
            host=self.host,
            is_tls_terminated=self.is_tls_terminated,
            public_url=self.public_url,
        )
        return self

    @property
    def is_development(self) -> bool:
        """Whether development conveniences (demo key, loopback and file URLs) exist."""
        return self.mode == "development"

    @property
    def artifacts_dir(self) -> Path:
        """The content-addressed artifact store; with one on object storage, this node's cache of it.

        The cache has a folder of its own: what is in the store's has no other copy, and is never removed.
        """
        url = self.artifacts.url or ""
        if url.startswith("file:"):
            return Path(url.removeprefix("file://"))
        return self.home / ("artifact-cache" if self.artifacts_bucket else "artifacts")

    @property
    def artifacts_bucket(self) -> str | None:
        """`bucket/prefix` of an artifact store on object storage."""
        url = self.artifacts.url or ""
        return url.removeprefix("s3://").rstrip("/") if url.startswith("s3:") else None

    @property
    def jobs_dir(self) -> Path:
        """One folder for each batch job: input, parts, output, log."""
        return self.home / "jobs"

    @property
    def files_dir(self) -> Path:
        """Uploaded files, one for each id."""
        return self.home / "files"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from an environment: `FYRE_HOME` and `FYRE_REDIS_URL` are required.

    Raises:
        KeyError: a required variable is missing.
        pydantic.ValidationError: a value does not fit; the message names the key.
    """
    config = _read_yaml(environ.get("FYRE_CONFIG") or PROJECT_ROOT / "configs" / "platform.yaml")
    return Settings.model_validate(
        {
            **config,
            "plans": _read_yaml(environ.get("FYRE_PLANS") or PROJECT_ROOT / "configs" / "plans.yaml"),
            "home": Path(environ["FYRE_HOME"]),
            "mode": environ.get("FYRE_MODE") or "development",
            "host": environ.get("FYRE_HOST") or LOOPBACK,
            "port": int(environ.get("FYRE_PORT") or 8000),
            "is_tls_terminated": environ.get("FYRE_TLS_TERMINATED") or False,
            "public_url": environ.get("FYRE_PUBLIC_URL") or None,
            "redis_url": SecretStr(environ["FYRE_REDIS_URL"]),
            "channels_dir": Path(folder) / "c" if (folder := environ.get("FYRE_RUNTIME_DIR")) else None,
        }
    )


def _read_yaml(path: str | Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(Path(path).read_text("utf-8")) or {}
    return found


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings, from its environment."""
    return load_settings(os.environ)
