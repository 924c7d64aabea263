"""Every Redis key, in one place. All names begin with `fyre:`; every key of a resource carries its organization.

Permanent keys (all others expire): organizations and API keys, models, live deployments with their assignments and
events, open jobs and those not assembled, the lists of these, the outbox, and the two counters `controller:epoch` and
`routes:version`.
"""

from __future__ import annotations

CHANGES_CHANNEL = "fyre:changes"
"""Pub/sub: one JSON message for each change of a resource, published by the script that made the change."""
CONTROLLER_EPOCH = "fyre:controller:epoch"
"""Counts controllers; a write of a controller that is not the newest is refused."""
ROUTES_VERSION = "fyre:routes:version"
"""Counts changes of deployments, for ingress replicas that missed a message."""
DEPLOYMENTS = "fyre:deployments"
"""Set of `<org> <deployment>` of all deployments that are not deleted."""
OPEN_JOBS = "fyre:jobs:open"
"""Set of `<org> <job>` of all jobs that have not ended."""
UNASSEMBLED_JOBS = "fyre:jobs:unassembled"
"""Set of `<org> <job>` of the ended jobs whose committed shards are not in an output file yet."""
OUTBOX = "fyre:outbox"
"""Sorted set of `<org> <delivery>` by the time of the next attempt (Unix seconds)."""


def api_key(key_id: str) -> str:
    """Hash: a stored API key, looked up by its id."""
    return f"fyre:key:{key_id}"


def org_keys(org: str) -> str:
    """Sorted set of the ids of an organization's keys."""
    return f"fyre:org:{org}:keys"


def model(org: str, model_id: str) -> str:
    """Hash: a model."""
    return f"fyre:org:{org}:model:{model_id}"


def models(org: str) -> str:
    """Sorted set of `<order> <id>`: an organization's models by registration."""
    return f"fyre:org:{org}:models"


def deployment(org: str, deployment_id: str) -> str:
    """Hash: a deployment."""
    return f"fyre:org:{org}:deployment:{deployment_id}"


def deployment_events(org: str, deployment_id: str) -> str:
    """List of JSON events of a deployment, oldest first."""
    return f"fyre:org:{org}:deployment:{deployment_id}:events"


def deployments(org: str) -> str:
    """Sorted set of the ids of an organization's deployments that are not deleted."""
    return f"fyre:org:{org}:deployments"


def assignment(application: str) -> str:
    """String: JSON of what a Serve application has to serve."""
    return f"fyre:assignment:{application}"


def load_failure(application: str) -> str:
    """String: JSON error that a replica left before it gave up."""
    return f"fyre:assignment:{application}:failure"


def job(org: str, job_id: str) -> str:
    """Hash: a batch job."""
    return f"fyre:org:{org}:job:{job_id}"


def all_jobs() -> str:
    """Pattern that matches every job's record, and the shards beside it."""
    return "fyre:org:*:job:*"


def job_shards(org: str, job_id: str) -> str:
    """Hash: shard index to the JSON of its counts and part; a field is there once the shard is committed."""
    return f"fyre:org:{org}:job:{job_id}:shards"


def jobs(org: str) -> str:
    """Sorted set of the ids of an organization's jobs."""
    return f"fyre:org:{org}:jobs"


def delivery(org: str, delivery_id: str) -> str:
    """Hash: a webhook delivery."""
    return f"fyre:org:{org}:delivery:{delivery_id}"


def idempotency(org: str, operation: str, key: str) -> str:
    """Hash: the fingerprint of the first request with this key, and its answer."""
    return f"fyre:org:{org}:idempotency:{operation}:{key}"
