"""Making registered models ready: what lies at their source is fetched, inspected and stored, beside the ticks.

A model's preparation is bounded and survives its controller: the next one finds the model in the store's set and
prepares it again. A source that was replaced meanwhile, or a model that was archived, is given up at once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from fyretoolkit.control.attempts import Attempts
from fyretoolkit.control.errands import Errands
from fyretoolkit.control.preparation import Preparer, bound_s
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.models import GiveUpModel, Model, PrepareModel, plan_preparations
from fyretoolkit.settings import Settings
from fyretoolkit.store.models import ModelStore


class ModelReconciler:
    """Prepares the models that wait for it, tick by tick."""

    def __init__(self, settings: Settings, models: ModelStore, preparer: Preparer, *, epoch: int) -> None:
        self._models = models
        self._preparer = preparer
        self._epoch = epoch
        self._errands = Errands()
        self._ends = Errands()
        """Apart: a preparation that hangs must not keep its own end from being written."""
        self._attempts = Attempts()
        self._bound_s = bound_s(settings.deployments)

    async def tick(self) -> bool:
        """Plan once and begin what is due. True while a model is being prepared, so the next look is soon.

        Raises:
            FencedError: a newer controller has taken over.
        """
        self._errands.check_fence()
        self._ends.check_fence()
        # Each has its whole time from its turn: it may have waited for other models, or for a controller.
        preparing = [
            replace(each, published_at=self._attempts.begun_at(_name(each)))
            for each in await self._models.preparing()
        ]
        names = {_name(model) for model in preparing}
        self._errands.cancel_others(names)
        self._attempts.keep(names)
        for command in plan_preparations(preparing, time.time(), bound_s=self._bound_s):
            errands = self._errands if isinstance(command, PrepareModel) else self._ends
            errands.begin(_name(command.model), self._handle(command))
        return bool(preparing)

    async def _handle(self, command: PrepareModel | GiveUpModel) -> None:
        match command:
            case PrepareModel(model):
                await self._prepare(model)
            case GiveUpModel(model, message):
                await self._give_up(model, PlatformError("load_timeout", message))

    async def _prepare(self, model: Model) -> None:
        try:
            loaded = await self._preparer.load(
                model.org, model.source_uri or "", partial(self._begin, model), sha256=model.source_sha256
            )
        except PlatformError as error:
            if error.code == "unavailable":
                raise
            await self._give_up(model, error)
            return
        await self._models.complete(
            model,
            epoch=self._epoch,
            artifact=loaded.artifact.sha256,
            size_bytes=loaded.artifact.size_bytes,
            spec=loaded.spec.to_json(),
            description=model.description or loaded.spec.description,
        )

    async def _begin(self, model: Model) -> None:
        await self._attempts.begin(_name(model), partial(self._models.count_attempt, model))

    async def _give_up(self, model: Model, error: PlatformError) -> None:
        await self._models.give_up(model, {"code": error.code, "message": error.message}, epoch=self._epoch)


def _name(model: Model) -> str:
    return f"{model.org} {model.id} {model.publication}"
