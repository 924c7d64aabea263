"""Carrying out what `core.deployments.plan` decided. Every handler may be run again at any time.

A command for a deployment that already has one under way is dropped: the plan names it again at the next tick, when it
is still due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from fyretoolkit.control import serve_driver
from fyretoolkit.control.attempts import Attempts
from fyretoolkit.control.errands import Errands
from fyretoolkit.control.preparation import Prepared, Preparer, bound_s
from fyretoolkit.control.standby import Standby
from fyretoolkit.control.threads import SERVE, WARM_UPS, run_in
from fyretoolkit.core.deployments import (
    Application,
    Bounds,
    Command,
    Degrade,
    Deployment,
    Fail,
    MarkDeleted,
    Prepare,
    RemoveApplication,
    Scale,
    Start,
    WarmUp,
    observed_counts,
    plan,
    scale_from_outside,
)
from fyretoolkit.core.errors import OF_REQUESTS, PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.standby import PREFIX as STANDBY_PREFIX
from fyretoolkit.core.standby import Claims, StartStandby, Surroundings
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import Settings
from fyretoolkit.store.deployments import Assignment, DeploymentStore

_DRAIN_S = 2.5
"""How long a deployment stays up after it left the routing table: an ingress that heard nothing looks each second."""
_WARM_UP_TIMEOUT_S = 30.0
_TAKEN = "The artifact is valid; a replica that stood by takes it."


class DeploymentReconciler:
    """Brings Ray Serve and the deployments' records together, tick by tick."""

    def __init__(
        self, settings: Settings, deployments: DeploymentStore, preparer: Preparer, *, epoch: int
    ) -> None:
        self._settings = settings
        self._deployments = deployments
        self._preparer = preparer
        self._epoch = epoch
        self._first_seen: dict[str, tuple[object, float]] = {}
        """By deployment: the stage it is in, and since when, by a clock that nobody sets."""
        self._errands = Errands()
        self._preparations = Errands()
        """Apart: they end when nobody waits for them any more, and do not keep their deployment from failing."""
        self._attempts = Attempts()
        self._serve = asyncio.Lock()
        self._standby = Standby(settings)
        bounds = settings.deployments
        self._bounds = Bounds(
            fetch_s=bound_s(bounds),
            load_s=bounds.load_timeout_s,
            drain_s=_DRAIN_S,
            place_s=bounds.place_timeout_s,
        )

    @property
    def standby(self) -> Mapping[str, int]:
        """How many replicas stand by: `desired` and `ready`."""
        return self._standby.counts

    async def tick(self) -> bool:
        """Plan once and begin what is due. True while something is changing, so the next look is soon.

        Raises:
            FencedError: a newer controller has taken over.
        """
        self._errands.check_fence()
        self._preparations.check_fence()
        if not await run_in(SERVE, serve_driver.is_running):
            return True
        async with self._serve:
            observed = await run_in(SERVE, serve_driver.observe)
        stood_by = self._standby.applications(observed)
        # First who was given a model, then who owns what: the other way one that is being taken would look spent.
        assigned = await self._deployments.assigned([each.name for each in stood_by])
        live = await self._deployments.live()
        desired = [replace(each, stage_at=self._stage_at(each)) for each in live]
        self._first_seen = {
            each.id: self._first_seen[each.id] for each in live if each.id in self._first_seen
        }
        preparing = {each.id for each in desired if _is_preparing(each)}
        self._preparations.cancel_others(preparing)
        self._attempts.keep(preparing)
        await self._record_replicas(desired, observed)
        claims = Claims({each.application for each in desired}, assigned)
        theirs = [each for each in observed if each not in stood_by or each.name in claims.owned]
        for command in plan(desired, theirs, time.time(), bounds=self._bounds):
            self._begin(command)
        await self._keep_standby(stood_by, claims, theirs)
        await self._wake(desired, observed)
        unsettled = (DeploymentStatus.PROVISIONING, DeploymentStatus.DEGRADED, DeploymentStatus.DRAINING)
        is_busy = bool(self._errands) or bool(self._preparations)
        return is_busy or any(each.status in unsettled for each in desired)

    async def _keep_standby(
        self, stood_by: list[Application], claims: Claims, theirs: list[Application]
    ) -> None:
        waiting = [each.shortage.ask for each in theirs if each.shortage]
        around = Surroundings(
            time.time(), waiting=waiting, is_busy=bool(self._errands) or bool(self._preparations)
        )
        if self._standby.needs_nodes(stood_by, claims, around):
            async with self._serve:
                around = replace(around, nodes=await run_in(SERVE, serve_driver.known_nodes))
        for command in self._standby.look(stood_by, claims, around):
            self._begin(command)

    async def _wake(self, desired: list[Deployment], observed: list[Application]) -> None:
        """Give those that are called in their sleep a replica that stands by. Without one they start their own."""
        wanted = await self._deployments.waking()
        by_name = {application.name: application for application in observed}
        for deployment in desired:
            application = by_name.get(deployment.application)
            if deployment.id not in wanted or application is None or not application.is_asleep:
                continue
            if deployment.status is DeploymentStatus.READY and (name := self._take_standby(deployment)):
                await self._deployments.move(deployment, name, epoch=self._epoch)

    def _take_standby(self, deployment: Deployment) -> str | None:
        if deployment.spec is None or deployment.region not in self._settings.regions:
            return None
        spec = ModelSpec.from_json(deployment.spec)
        return self._standby.take(serve_driver.ask_of(deployment, spec, self._settings))

    def _stage_at(self, deployment: Deployment) -> float:
        """Since when its stage is measured: a preparation from its turn on, however long it waited.

        Everything else from its first look on: while no controller was there nothing could happen, and the time in the
        record is of a clock that may have been set since. As Unix seconds of the clock as it is now.
        """
        if _is_preparing(deployment):
            return self._attempts.begun_at(deployment.id)
        now, stage = time.monotonic(), (deployment.status, deployment.stage, deployment.stage_at)
        if self._first_seen.get(deployment.id, (None,))[0] != stage:
            self._first_seen[deployment.id] = stage, now
        return time.time() - (now - self._first_seen[deployment.id][1])

    async def _record_replicas(self, desired: list[Deployment], observed: list[Application]) -> None:
        by_name = {application.name: application for application in observed}
        for deployment in desired:
            if (wanted := scale_from_outside(deployment, by_name.get(deployment.application))) is not None:
                await self._deployments.adopt_scale(deployment, wanted, epoch=self._epoch)
                continue  # decided on at the next look, which the change brings about
            ready, target = observed_counts(deployment, by_name.get(deployment.application))
            if (ready, target) != (deployment.ready_replicas, deployment.target_replicas):
                await self._deployments.observe(
                    deployment, epoch=self._epoch, ready_replicas=ready, target_replicas=target
                )

    def _begin(self, command: Command | StartStandby) -> None:
        errands = self._preparations if isinstance(command, Prepare) else self._errands
        errands.begin(_name_of(command), self._handle(command))

    async def _handle(self, command: Command | StartStandby) -> None:
        match command:
            case StartStandby(ask):
                name = new_id(STANDBY_PREFIX)
                async with self._serve:
                    await run_in(SERVE, serve_driver.start_standby, name, ask, self._settings)
            case Prepare(deployment):
                await self._prepare(deployment)
            case Start(deployment) | Scale(deployment):
                await self._apply(deployment)
            case WarmUp(deployment):
                await self._warm_up(deployment)
            case Degrade(deployment):
                await self._change(
                    deployment, DeploymentStatus.DEGRADED, "No replica is running.", ready_replicas=0
                )
            case Fail(deployment, code, message, details):
                await self._fail(deployment, code, message, details)
            case RemoveApplication(name):
                async with self._serve:
                    await run_in(SERVE, serve_driver.remove, name)
            case MarkDeleted(deployment):
                await self._change(
                    deployment, DeploymentStatus.DELETED, "Its replicas are gone.", ready_replicas=0
                )

    async def _prepare(self, deployment: Deployment) -> None:
        if deployment.stage is Stage.FETCHING:
            await self._advance(deployment, Stage.INSPECTING, "Fetching and inspecting the artifact.")
        try:
            count = partial(self._deployments.count_attempt, deployment)
            prepared = await self._preparer.prepare(
                deployment, partial(self._attempts.begin, deployment.id, count)
            )
        except PlatformError as error:
            if error.code == "unavailable":
                raise
            await self._fail(deployment, error.code, error.message)
            return
        await self._start(deployment, prepared)

    async def _start(self, deployment: Deployment, prepared: Prepared) -> None:
        """Assign the model to a replica that stands by, or else to an application that the next tick starts."""
        spec = prepared.spec
        num_gpus, accelerator_type = _gpus_of(deployment, spec)
        # Fetching took a while: the caller may have changed the scale since this deployment was read.
        current = await self._deployments.get(deployment.org, deployment.id) or deployment
        values: dict[str, Any] = {
            "model": prepared.model,
            "artifact": prepared.artifact,
            "spec": spec.to_json(),
            "num_gpus": num_gpus,
            "accelerator_type": accelerator_type,
            **_scale_of(current, spec),
        }
        advance = partial(
            self._deployments.advance,
            current,
            Stage.STARTING,
            epoch=self._epoch,
            assignment=Assignment(
                deployment=deployment.id,
                org=deployment.org,
                model=prepared.model,
                artifact=prepared.artifact,
                spec=spec.to_json(),
                region=deployment.region,
                epoch=self._epoch,
                num_gpus=num_gpus,
                threads=spec.resources.threads or max(1, int(serve_driver.cpus_of(spec, self._settings))),
            ),
            **values,
        )
        asking = replace(current, spec=spec.to_json(), num_gpus=num_gpus, accelerator_type=accelerator_type)
        standby = self._take_standby(asking)
        if standby is None or not await advance(message=_TAKEN, standby=standby):
            await advance(message="The artifact is valid; a replica is being started.")

    async def _apply(self, deployment: Deployment) -> None:
        if deployment.spec is None:
            raise PlatformError("internal_error", f"{deployment.id} was started before it was prepared.")
        spec = ModelSpec.from_json(deployment.spec)
        async with self._serve:
            await run_in(SERVE, serve_driver.apply, deployment, spec, self._settings)

    async def _warm_up(self, deployment: Deployment) -> None:
        if deployment.stage is not Stage.WARMING:
            await self._advance(deployment, Stage.WARMING, "A replica is up; a first inference runs.")
        # One that stood by loads its model in this call.
        limit_s = self._bounds.load_s if deployment.standby else _WARM_UP_TIMEOUT_S
        try:
            batching = await run_in(WARM_UPS, serve_driver.warm_up, deployment.application, limit_s)
        except (PlatformError, TimeoutError) as error:
            found = error if isinstance(error, PlatformError) else _too_slow(deployment, limit_s)
            if deployment.status is DeploymentStatus.PROVISIONING:
                code = "warmup_failed" if found.code in OF_REQUESTS else found.code
                await self._fail(deployment, code, found.message)
            return
        await self._change(
            deployment,
            DeploymentStatus.READY,
            "It takes traffic.",
            stage=Stage.READY,
            ready_replicas=1,
            batching=batching,
        )

    async def _fail(
        self, deployment: Deployment, code: str, message: str, details: Mapping[str, object] | None = None
    ) -> None:
        if code in ("replica_failed", "load_timeout"):
            code, message = await self._deployments.load_failure(deployment.application) or (code, message)
        error: dict[str, object] = {"code": code, "message": PlatformError(code, message).message}
        if details:
            error["details"] = details
        await self._change(deployment, DeploymentStatus.FAILED, f"{code}: {error['message']}", error=error)

    async def _advance(self, deployment: Deployment, stage: Stage, message: str) -> None:
        await self._deployments.advance(deployment, stage, epoch=self._epoch, message=message)

    async def _change(
        self, deployment: Deployment, status: DeploymentStatus, message: str, **values: object
    ) -> None:
        await self._deployments.transition(deployment, status, epoch=self._epoch, message=message, **values)


def _too_slow(deployment: Deployment, limit_s: float) -> PlatformError:
    """A warm-up took longer than it may."""
    if deployment.standby:
        return PlatformError("load_timeout", f"The model did not load and answer once within {limit_s:g} s.")
    return PlatformError("warmup_failed", f"The first inference did not end within {limit_s:g} s.")


def _name_of(command: Command | StartStandby) -> str:
    """Of an errand: no two of a name at once."""
    match command:
        case StartStandby():
            return "standby"
        case RemoveApplication(name):
            return name
        case _:
            return command.deployment.id


def _is_preparing(deployment: Deployment) -> bool:
    is_early = deployment.stage in (Stage.FETCHING, Stage.INSPECTING)
    return deployment.status is DeploymentStatus.PROVISIONING and is_early


def _gpus_of(deployment: Deployment, spec: ModelSpec) -> tuple[float, str | None]:
    """How many GPUs and of which kind: what the caller did not say, the manifest does."""
    wanted = spec.resources
    num_gpus = wanted.num_gpus if deployment.num_gpus is None else deployment.num_gpus
    return num_gpus, (deployment.accelerator_type or wanted.accelerator_type) if num_gpus else None


def _scale_of(deployment: Deployment, spec: ModelSpec) -> dict[str, dict[str, int]]:
    """The bounds that the manifest asks for, unless the caller said how to scale."""
    if spec.autoscaling is None or deployment.is_scale_chosen:
        return {}
    return {
        "autoscaling": {
            "min_replicas": spec.autoscaling.min_replicas,
            "max_replicas": spec.autoscaling.max_replicas,
        }
    }
