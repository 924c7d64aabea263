"""Every Redis key, in one place. All names begin with `fyre:`; every key of a resource carries its organization.

Permanent keys (all others expire): organizations and API keys, models, live deployments with their assignments and
events, open jobs and those not assembled, the lists of these and of files, when each organization's last job began,
the runners that stand by, the outbox with its lanes, the secrets of webhooks and of download links, and the two
counters `controller:epoch` and `routes:version`.
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
QUEUED_JOBS = "fyre:jobs:waiting"
"""Sorted set of `<org> <job>` of all jobs that no run has claimed yet: the line of each organization, in order."""
RUNNING_JOBS = "fyre:jobs:running"
"""Sorted set of `<org> <job>` of all jobs that a run has claimed and that have not ended."""
LAST_STARTS = "fyre:jobs:started"
"""Hash: by organization, when a job of it left the queue last (Unix milliseconds)."""
STANDBY_RUNNERS = "fyre:runners:standby"
"""Sorted set of `<org> <actor>`, `* <actor>` for any organization: runners that wait for a run. Score 0: it starts."""
BATCH_SHARE = "fyre:batch:share"
"""String: how many workers of each running job may be at work; expires."""
NODES = "fyre:nodes"
"""String: JSON of all nodes as the controller saw them last; expires."""
UNASSEMBLED_JOBS = "fyre:jobs:unassembled"
"""Set of `<org> <job>` of the ended jobs of which output is missing, or files are left that nobody reads."""
PREPARING_MODELS = "fyre:models:preparing"
"""Set of `<org> <model>` of all models whose source is to be fetched and inspected."""
WAKING = "fyre:deployments:waking"
"""Set of `<org> <deployment>` of deployments without replicas that are called; expires."""
FILES = "fyre:files"
"""Set of `<org> <file>` of all files whose content is on the disk, or was."""
ORGANIZATIONS = "fyre:organizations"
"""Sorted set of `<order> <id>` of all organizations."""
OPERATOR_KEYS = "fyre:operators"
"""Set of the ids of the keys that manage organizations, the demo organization's aside; revoked ones are taken out."""
DOWNLOAD_SIGNING = "fyre:downloads:secret"
"""String: what links to results are signed with, in hexadecimal; made once."""
OUTBOX = "fyre:outbox"
"""Sorted set of `<org> <delivery>` by the time of the next attempt (Unix seconds); what is due goes on to the lanes."""
OUTBOX_TURNS = "fyre:outbox:turns"
"""Sorted set of the organizations with deliveries that are due, by turn: who had one sent goes to the back."""
OUTBOX_SENDING = "fyre:outbox:sending"
"""Hash: `<org> <delivery>` to `<sender> <lease end, ms> <receiver>` of each delivery that a sender has in its hands."""
OUTBOX_SENDERS = "fyre:outbox:senders"
"""Hash: when each sender with something in its hands was last heard of, in milliseconds."""


def sender_channel(sender: str) -> str:
    """Pub/sub: on which a sender of webhooks listens, and which says by that alone that its process lives."""
    return f"fyre:outbox:sender:{sender}"


def sender_claim(sender: str) -> str:
    """String: the number of the last claim of a sender that has something in its hands; expires."""
    return f"fyre:outbox:claim:{sender}"


def organization(org: str) -> str:
    """Hash: an organization."""
    return f"fyre:organization:{org}"


def api_key(key_id: str) -> str:
    """Hash: a stored API key, looked up by its id."""
    return f"fyre:key:{key_id}"


def org_keys(org: str) -> str:
    """Sorted set of the ids of an organization's keys."""
    return f"fyre:org:{org}:keys"


def org_admins(org: str) -> str:
    """Set of the ids of an organization's keys that manage its keys; revoked ones are taken out."""
    return f"fyre:org:{org}:admins"


def active_keys(org: str) -> str:
    """Sorted set of the ids of an organization's keys that are not revoked, by when they expire (`inf`: never).

    Made when the first key is created after it was introduced; expired ones leave it then.
    """
    return f"fyre:org:{org}:active_keys"


def model(org: str, model_id: str) -> str:
    """Hash: a model."""
    return f"fyre:org:{org}:model:{model_id}"


def models(org: str, status: str | None = None) -> str:
    """Sorted set of `<order> <id>`: an organization's models by registration, all or those with a status."""
    return f"fyre:org:{org}:models:{status}" if status else f"fyre:org:{org}:models"


def deployment(org: str, deployment_id: str) -> str:
    """Hash: a deployment."""
    return f"fyre:org:{org}:deployment:{deployment_id}"


def deployment_events(org: str, deployment_id: str) -> str:
    """List of JSON events of a deployment, oldest first."""
    return f"fyre:org:{org}:deployment:{deployment_id}:events"


def metrics(org: str, deployment_id: str) -> str:
    """What the names of a deployment's metrics begin with; `<seconds of a bucket>:<its start>` follows.

    Strings: JSON of what happened in that bucket.
    """
    return f"fyre:org:{org}:deployment:{deployment_id}:tallies:"


def recorder(recorder_id: str) -> str:
    """String: the number of the last batch of metrics that a process added."""
    return f"fyre:recorder:{recorder_id}"


def attempts(org: str, name: str) -> str:
    """String: how many controllers have begun to prepare a model or a deployment; expires."""
    return f"fyre:org:{org}:attempts:{name}"


def deployments(org: str) -> str:
    """Sorted set of the ids of an organization's deployments that are not deleted."""
    return f"fyre:org:{org}:deployments"


def deployments_by_model(org: str) -> str:
    """Sorted set of `<model> <deployment>` of its live deployments, `~ <deployment>` of the others not deleted.

    With as many members as `deployments` it is complete; a platform from before it has fewer.
    """
    return f"fyre:org:{org}:deployments:by_model"


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


def runner(name: str) -> str:
    """List: one JSON, the run that a runner that stood by was given."""
    return f"fyre:runner:{name}"


def file(org: str, file_id: str) -> str:
    """Hash: an uploaded file; expires with it."""
    return f"fyre:org:{org}:file:{file_id}"


def files(org: str) -> str:
    """Sorted set of the ids of an organization's files; expired ones leave it when their content is removed."""
    return f"fyre:org:{org}:files"


def file_sizes(org: str) -> str:
    """Hash: how many bytes each of an organization's files has on the disk, by id, and their `total`."""
    return f"fyre:org:{org}:files:sizes"


def delivery(org: str, delivery_id: str) -> str:
    """Hash: a webhook delivery."""
    return f"fyre:org:{org}:delivery:{delivery_id}"


def delivery_attempts(org: str, delivery_id: str) -> str:
    """List of JSON attempts of a delivery, oldest first; expires with it."""
    return f"fyre:org:{org}:delivery:{delivery_id}:attempts"


def job_deliveries(org: str, job_id: str) -> str:
    """Sorted set of the ids of a job's deliveries; expires with the job."""
    return f"fyre:org:{org}:deliveries:{job_id}"


def outbox_lanes(org: str) -> str:
    """What the names of an organization's lanes begin with: itself the sorted set of its receivers by turn.

    `:<receiver>` (host and port) follows for the list of the ids of deliveries that are due there, oldest first.
    """
    return f"fyre:org:{org}:outbox"


def webhook_secret(org: str) -> str:
    """Hash: what an organization's webhooks are signed with, and what they were before."""
    return f"fyre:org:{org}:webhook_secret"


def idempotency(org: str, operation: str, key: str) -> str:
    """Hash: the fingerprint of the first request with this key, and its answer.

    The first colon behind `operation` ends it, though a path may hold some.
    """
    named = operation.replace("%", "%25").replace(":", "%3A")
    return f"fyre:org:{org}:idempotency:{named}:{key}"


def request_log(org: str, key_id: str, category: str) -> str:
    """List of the moments (Unix microseconds, newest first) of a key's counted reads or writes in the window.

    `link:<job>` for the key: downloads with the links of that job.
    """
    return f"fyre:org:{org}:limits:{key_id}:{category}"


def token_ledger(org: str, key_id: str) -> str:
    """Hash: which tokens of a key's predictions are spent, and which replica holds how many."""
    return f"fyre:org:{org}:limits:{key_id}:inference"
