"""Deployments in Redis: creation, the fenced changes of the controller, the assignments that replicas read."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DEPLOYMENT, LIVE_DEPLOYMENT, DeploymentStatus, Stage, predecessors
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.core.quotas import Resource
from fyretoolkit.core.traffic import Shift
from fyretoolkit.store import keys
from fyretoolkit.store.attempts import count_attempt
from fyretoolkit.store.connection import Store, change_message, script_argument, translated
from fyretoolkit.store.creation import Creation, Idempotency, Quota, create
from fyretoolkit.store.fencing import FencedError
from fyretoolkit.store.records import encode_fields, from_hash, to_hash

_FAILURE_TTL_S = 3600
_SPENT_S = 3600
_WAKING_TTL_S = 60
_MOST_WAKING = 1000


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the replicas of one Serve application have to serve. Written before the application starts."""

    deployment: str
    org: str
    model: str
    artifact: str
    spec: Mapping[str, object]
    region: str
    epoch: int
    num_gpus: float = 0.0
    threads: int = 1
    schema: int = 1


class DeploymentStore:
    """The repository of deployments.

    The controller passes its epoch with every change; one that is not the newest gets a `FencedError` and changes
    nothing.
    """

    def __init__(self, store: Store, deleted_ttl_s: int) -> None:
        self._store = store
        self._deleted_ttl_s = deleted_ttl_s

    async def create(
        self, deployment: Deployment, *, idempotency: Idempotency | None = None, limit: int | None = None
    ) -> Creation:
        """Write a provisioning deployment, its list entries and its idempotency answer in one step.

        Refused if its model is known and not ready by then: no archived model gets a deployment.

        Raises:
            PlatformError: `quota_exceeded`, the organization has `limit` deployments that are not deleted.
        """
        group = deployment.model if deployment.status in LIVE_DEPLOYMENT else "~"
        return await create(
            self._store,
            record_key=keys.deployment(deployment.org, deployment.id),
            fields=to_hash(deployment),
            open_set=keys.DEPLOYMENTS,
            lists={
                keys.deployments(deployment.org): deployment.id,
                keys.deployments_by_model(deployment.org): f"{group} {deployment.id}",
            },
            change=("deployment", deployment.org, deployment.id),
            counter=keys.ROUTES_VERSION,
            requires_ready=_records_of_model(deployment) if deployment.is_model_id_chosen else (),
            idempotency=idempotency,
            quota=Quota(Resource.DEPLOYMENTS, limit),
        )

    async def get(self, org: str, deployment_id: str) -> Deployment | None:
        """The deployment, or None if this organization has none of this id."""
        stored = await self._store.read_hash(keys.deployment(org, deployment_id))
        return from_hash(Deployment, stored) if stored else None

    async def count_attempt(self, deployment: Deployment) -> int:
        """Count one controller more that prepares it; how many there were."""
        return await count_attempt(self._store, deployment.org, deployment.id)

    async def live(self) -> list[Deployment]:
        """Every deployment that is not deleted, of all organizations."""
        members = await self._store.read_members(keys.DEPLOYMENTS)
        stored = await self._store.read_hashes([keys.deployment(org, name) for org, name in members])
        return [from_hash(Deployment, fields) for fields in stored if fields]

    async def page(self, org: str, limit: int, *, starting_after: str | None = None) -> list[Deployment]:
        """Newest first, at most `limit` deployments, all older than `starting_after`; deleted ones left out."""
        ids = await self._store.read_page(keys.deployments(org), limit, below=starting_after)
        stored = await self._store.read_hashes([keys.deployment(org, name) for name in ids])
        return [from_hash(Deployment, fields) for fields in stored if fields]

    async def events(self, org: str, deployment_id: str) -> list[dict[str, object]]:
        """What happened to the deployment, oldest first: `{at, stage, message}`."""
        async with translated():
            texts = await cast(
                Awaitable[list[str]],
                self._store.redis.lrange(keys.deployment_events(org, deployment_id), 0, -1),
            )
        return [json.loads(text) for text in texts]

    async def routes_version(self) -> int:
        """A number that grows with every change of any deployment."""
        return int(await self._store.read_text(keys.ROUTES_VERSION) or 0)

    async def new_controller_epoch(self) -> int:
        """The epoch of a controller that starts now; every earlier one is fenced off from here on."""
        async with translated():
            return int(await self._store.redis.incr(keys.CONTROLLER_EPOCH))

    async def advance(
        self,
        deployment: Deployment,
        stage: Stage,
        *,
        epoch: int,
        message: str,
        assignment: Assignment | None = None,
        **values: object,
    ) -> bool:
        """Move a deployment that is being provisioned (or brought back) to another stage.

        False if it moved on, or, with an assignment, if its caller changed it meanwhile or its model is not ready; with
        a `standby` among the values, an application that stood by, also if anybody was ever given that.
        """
        conditions: dict[str, object] = {}
        if assignment is not None:
            conditions = {
                "assignment": json.dumps(asdict(assignment)),
                "is_claim": values.get("standby") is not None,
                "revision": str(deployment.revision),
                "requires_ready": _records_of_model(replace(deployment, model=assignment.model)),
            }
        return await self._change(
            deployment,
            (DeploymentStatus.PROVISIONING, DeploymentStatus.DEGRADED),
            {"stage": stage, "stage_at": time.time(), **values},
            epoch=str(epoch),
            event=_event(stage, message),
            **conditions,
        )

    async def move(self, deployment: Deployment, standby: str, *, epoch: int) -> bool:
        """Give a deployment that sleeps a replica that stood by, for its application without any.

        False if it moved on, was changed meanwhile, or if anybody was ever given that one.
        """
        assignment = await self.assignment(deployment.application)
        if assignment is None:
            return False
        return await self._change(
            deployment,
            (DeploymentStatus.READY,),
            {"standby": standby, "ready_replicas": 1, "target_replicas": 1},
            epoch=str(epoch),
            event=_event("woken", "A replica that stood by takes its traffic."),
            revision=str(deployment.revision),
            assignment=json.dumps(asdict(replace(assignment, epoch=epoch))),
            is_claim=True,
            spent_s=_SPENT_S,
        )

    async def adopt_scale(self, deployment: Deployment, replicas: int, *, epoch: int) -> bool:
        """What an operator set in Serve is what is wanted; False if it is not live, or was changed meanwhile."""
        return await self._change(
            deployment,
            LIVE_DEPLOYMENT,
            {"replicas": replicas, "is_scale_chosen": True},
            epoch=str(epoch),
            event=_event("scaled", f"An operator set replicas {replicas} in Ray Serve."),
            revision=str(deployment.revision),
            is_revised=True,
        )

    async def observe(
        self, deployment: Deployment, *, epoch: int, ready_replicas: int, target_replicas: int | None
    ) -> bool:
        """Record how many replicas are running and how many Serve aims at, without an event.

        False if it moved on, or its caller changed it meanwhile.
        """
        return await self._change(
            deployment,
            (deployment.status,),
            {"ready_replicas": ready_replicas, "target_replicas": target_replicas},
            epoch=str(epoch),
            revision=str(deployment.revision),
        )

    async def change(self, deployment: Deployment, values: Mapping[str, object], *, message: str) -> bool:
        """Write what its caller wants otherwise (None removes a field).

        False if it is not live by now, or was changed since `deployment` was read.
        """
        return await self._change(
            deployment,
            LIVE_DEPLOYMENT,
            values,
            event=_event("changed", message),
            revision=str(deployment.revision),
            is_revised=True,
            call=secrets.token_hex(8),
        )

    async def of_model(self, org: str, model: str) -> list[Deployment]:
        """The organization's live deployments of a model, oldest first."""
        async with translated():
            found = await self._store.redis.zrangebylex(
                keys.deployments_by_model(org), f"[{model} ", f"[{model} \x7f"
            )
        names = [str(member).partition(" ")[2] for member in found]
        stored = await self._store.read_hashes([keys.deployment(org, name) for name in names])
        deployments = [from_hash(Deployment, fields) for fields in stored if fields]
        return [each for each in deployments if each.status in LIVE_DEPLOYMENT]

    async def shift(self, shift: Shift, deployments: Sequence[Deployment], *, message: str) -> bool:
        """Change the traffic of those of the deployments that a shift names, all at once.

        False, and nothing was changed, if one of the deployments, whether it is named or not, is not live by now, or
        was changed since it was read: the shift was decided on all of them.
        """
        records = [
            key
            for each in deployments
            for key in (keys.deployment(each.org, each.id), keys.deployment_events(each.org, each.id))
        ]
        argument = {
            "live": LIVE_DEPLOYMENT,
            "updated": int(time.time()),
            "channel": keys.CHANGES_CHANNEL,
            "deployments": [_new_weight(each, shift, message) for each in deployments],
        }
        answer = await self._store.run(
            "shift_traffic", [keys.ROUTES_VERSION, *records], [script_argument(argument)]
        )
        return bool(answer == "changed")

    async def transition(
        self,
        deployment: Deployment,
        status: DeploymentStatus,
        *,
        message: str,
        epoch: int | None = None,
        **values: object,
    ) -> bool:
        """Change the status if the lifecycle allows it from what it is now; False if it does not.

        `epoch` is the controller's; a caller's own deletion passes none.
        """
        return await self._change(
            deployment,
            predecessors(DEPLOYMENT, status),
            {"status": status, "stage_at": time.time(), **values},
            epoch=None if epoch is None else str(epoch),
            event=_event(str(values.get("stage", status)), message),
            forget_s=self._deleted_ttl_s if status is DeploymentStatus.DELETED else None,
        )

    async def _change(
        self,
        deployment: Deployment,
        legal: tuple[DeploymentStatus, ...],
        values: Mapping[str, object],
        **conditions: object,
    ) -> bool:
        """`conditions` are further entries of the script's argument."""
        org, name = deployment.org, deployment.id
        application = values.get("standby") or deployment.application
        answer = await self._store.run(
            "transition_deployment",
            [
                keys.deployment(org, name),
                keys.CONTROLLER_EPOCH,
                keys.DEPLOYMENTS,
                keys.deployments(org),
                keys.deployment_events(org, name),
                keys.ROUTES_VERSION,
                keys.assignment(str(application)),
                keys.deployments_by_model(org),
                keys.assignment(deployment.application),
            ],
            [
                script_argument(
                    {
                        "from": legal,
                        "live": LIVE_DEPLOYMENT,
                        "fields": encode_fields(Deployment, {"updated": int(time.time()), **values}),
                        "clear": [field for field, value in values.items() if value is None],
                        "member": f"{org} {name}",
                        "list_member": name,
                        "channel": keys.CHANGES_CHANNEL,
                        "message": change_message("deployment", org, name),
                        **conditions,
                    }
                )
            ],
        )
        if answer == "fenced":
            raise FencedError(f"controller {conditions['epoch']} was replaced")
        return bool(answer == "changed")

    async def assignment(self, application: str) -> Assignment | None:
        """What a Serve application has to serve, or None if nothing is assigned to it."""
        text = await self._store.read_text(keys.assignment(application))
        return Assignment(**json.loads(text)) if text else None

    async def assigned(self, applications: Sequence[str]) -> frozenset[str]:
        """Those of the applications that were given a model."""
        async with translated():
            texts = await self._store.redis.mget([keys.assignment(name) for name in applications] or ["-"])
        return frozenset(name for name, text in zip(applications, texts, strict=False) if text)

    async def ask_to_wake(self, org: str, deployment_id: str) -> None:
        """Have the controller give a deployment without replicas one that stands by."""
        async with translated(), self._store.redis.pipeline(transaction=True) as pipe:
            pipe.sadd(keys.WAKING, f"{org} {deployment_id}")
            pipe.expire(keys.WAKING, _WAKING_TTL_S)
            pipe.publish(keys.CHANGES_CHANNEL, change_message("deployment", org, deployment_id))
            await pipe.execute()

    async def waking(self) -> list[str]:
        """The ids of the deployments that were asked to wake since the last look."""
        async with translated():
            members = await cast(Awaitable[list[str]], self._store.redis.spop(keys.WAKING, _MOST_WAKING))
        return [member.split(" ")[1] for member in members]

    async def report_load_failure(self, application: str, code: str, message: str) -> None:
        """A replica says why it cannot serve; the controller turns it into the deployment's error."""
        async with translated():
            text = json.dumps({"code": code, "message": message})
            await self._store.redis.set(keys.load_failure(application), text, ex=_FAILURE_TTL_S)

    async def load_failure(self, application: str) -> tuple[str, str] | None:
        """(code, message) that a replica of this application left, if one did."""
        text = await self._store.read_text(keys.load_failure(application))
        if not text:
            return None
        failure = json.loads(text)
        return failure["code"], failure["message"]


def _records_of_model(deployment: Deployment) -> list[str]:
    """The keys under which its model is looked up: the organization's own, then the public one."""
    return [keys.model(org, deployment.model) for org in (deployment.org, PUBLIC_ORG)]


def _new_weight(deployment: Deployment, shift: Shift, message: str) -> dict[str, object]:
    """A deployment's entry in the argument of `shift_traffic.lua`: its revision alone if its weight stays."""
    revision = str(deployment.revision)
    if (weight := shift.weights.get(deployment.id)) is None:
        return {"revision": revision}
    entry: dict[str, object] = {
        "revision": revision,
        "traffic": weight,
        "event": _event("traffic", f"{message} Traffic here: {deployment.traffic} → {weight}."),
        "message": change_message("deployment", deployment.org, deployment.id),
    }
    if deployment.id == shift.target.id:
        entry["replaced"] = json.dumps(shift.replaced) if shift.replaced else ""
    return entry


def _event(stage: str, message: str) -> str:
    return json.dumps({"at": int(time.time()), "stage": stage, "message": message})
