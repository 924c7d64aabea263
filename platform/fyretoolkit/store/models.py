"""Models in Redis. Demo models belong to `org_public`, which every organization can see and none can change."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, MODEL, ModelStatus, predecessors
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.core.quotas import Resource
from fyretoolkit.store import keys
from fyretoolkit.store.attempts import count_attempt
from fyretoolkit.store.connection import Store, change_message, script_argument, translated
from fyretoolkit.store.creation import Creation, CreationOutcome, Idempotency, Quota, create
from fyretoolkit.store.fencing import FencedError
from fyretoolkit.store.records import encode_fields, from_hash, to_hash


class ModelStore:
    """The repository of models. Models are never deleted, only archived.

    Every model is in two lists: all models of its organization, and those with its status, so that a page of either
    costs the same however many there are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(
        self, model: Model, *, idempotency: Idempotency | None = None, limit: int | None = None
    ) -> Creation:
        """Write the model, its list entries and its idempotency answer in one step, unless its id is in use.

        Raises:
            PlatformError: `quota_exceeded`, the organization has `limit` models.
        """
        member = _list_member(model)
        return await create(
            self._store,
            record_key=keys.model(model.org, model.id),
            fields=to_hash(model),
            open_set=keys.PREPARING_MODELS if model.is_preparing else None,
            lists={keys.models(model.org): member, keys.models(model.org, model.status): member},
            change=("model", model.org, model.id),
            idempotency=idempotency,
            quota=Quota(Resource.MODELS, limit),
        )

    async def register(self, model: Model, *, limit: int | None = None) -> Model:
        """Write the model unless its organization has one of this id; the one that is there now.

        Raises:
            PlatformError: `quota_exceeded` as in `create`.
        """
        creation = await self.create(model, limit=limit)
        if creation.outcome is CreationOutcome.CREATED:
            return model
        return from_hash(Model, await self._store.read_hash(keys.model(model.org, model.id)))

    async def count_attempt(self, model: Model) -> int:
        """Count one controller more that prepares this publication; how many there were."""
        return await count_attempt(self._store, model.org, f"{model.order}:{model.publication}")

    async def get(self, org: str, model_id: str) -> Model | None:
        """The organization's own model of this id, else the public one, else None."""
        own, public = await self._store.read_hashes(
            [keys.model(org, model_id), keys.model(PUBLIC_ORG, model_id)]
        )
        stored = own or public
        return from_hash(Model, stored) if stored else None

    async def page(
        self, org: str, limit: int, *, after: Model | None = None, status: ModelStatus | None = None
    ) -> list[Model]:
        """Newest first, at most `limit` of the organization's own and the public models, all older than `after`.

        With `status`, of those that had it when the list was read.
        """
        below = _list_member(after) if after else None
        owners = (org, PUBLIC_ORG)
        pages = [
            await self._store.read_page(keys.models(owner, status), limit, below=below) for owner in owners
        ]
        entries = sorted(
            ((member, owner) for owner, page in zip(owners, pages, strict=True) for member in page),
            reverse=True,
        )
        stored = await self._store.read_hashes(
            [keys.model(owner, member.partition(" ")[2]) for member, owner in entries[:limit]]
        )
        return [from_hash(Model, fields) for fields in stored if fields]

    async def preparing(self) -> list[Model]:
        """Every model whose source is to be fetched and inspected, of all organizations."""
        members = await self._store.read_members(keys.PREPARING_MODELS)
        stored = await self._store.read_hashes([keys.model(org, name) for org, name in members])
        return [from_hash(Model, fields) for fields in stored if fields]

    async def publish(
        self,
        model: Model,
        source_uri: str,
        sha256: str | None = None,
        *,
        idempotency: Idempotency | None = None,
    ) -> Creation:
        """Give a model in training a source, in place of any before, and keep the answer to its idempotency key.

        Refused if it is not in training by now, unless this very call was answered before.

        Raises:
            PlatformError: `idempotency_key_reused`.
        """
        values = {
            "source_uri": source_uri,
            "source_sha256": sha256,
            "published_at": time.time(),
            "error": None,
        }
        claim = idempotency and {
            "name": idempotency.stored_as,
            "call": secrets.token_hex(8),
            **idempotency.to_script(),
        }
        told, *more = await self._change(
            model, (ModelStatus.TRAINING,), values, is_preparing=True, idempotency=claim
        )
        match told:
            case "changed":
                return Creation(CreationOutcome.CREATED)
            case "replayed":
                return Creation(CreationOutcome.REPLAYED, more[0])
            case "reused":
                raise PlatformError("idempotency_key_reused")
            case status:
                return Creation(CreationOutcome.REFUSED, status)

    async def complete(self, model: Model, *, epoch: int, **values: object) -> bool:
        """What was found at the source makes the model ready; False if another was published, or it is archived."""
        return await self._settle(model, {**values, "status": ModelStatus.READY}, epoch)

    async def give_up(self, model: Model, error: Mapping[str, object], *, epoch: int) -> bool:
        """The source did not become the model, which stays in training; False as for `complete`."""
        return await self._settle(model, {"error": error}, epoch)

    async def archive(self, model: Model) -> list[str]:
        """Put the model away; live deployments that forbid it (100 ids at most), none when it is archived now."""
        answer = await self._change(
            model,
            predecessors(MODEL, ModelStatus.ARCHIVED),
            {"status": ModelStatus.ARCHIVED},
            unused={
                "deployments": keys.deployments(model.org),
                "by_model": keys.deployments_by_model(model.org),
                "prefix": keys.deployment(model.org, ""),
                "live": LIVE_DEPLOYMENT,
            },
        )
        return list(answer[1:]) if answer[0] == "in_use" else []

    async def remove_public(self) -> None:
        """Forget the public models: production mode has none. Not for a platform that answers already."""
        lists = [keys.models(PUBLIC_ORG, status) for status in (None, *ModelStatus)]
        members = await self._store.read_page(lists[0], -1)
        records = [keys.model(PUBLIC_ORG, member.partition(" ")[2]) for member in members]
        async with translated():
            await self._store.redis.delete(*records, *lists)

    async def _settle(self, model: Model, values: Mapping[str, object], epoch: int) -> bool:
        answer = await self._change(
            model,
            (ModelStatus.TRAINING,),
            values,
            epoch=str(epoch),
            publication=str(model.publication),
        )
        if answer[0] == "fenced":
            raise FencedError(f"controller {epoch} was replaced")
        return answer[0] == "changed"

    async def _change(
        self,
        model: Model,
        legal: Sequence[ModelStatus],
        values: Mapping[str, object],
        **conditions: object,
    ) -> list[str]:
        """What the script answers; `conditions` are further entries of its argument. None removes a field."""
        org, name = model.org, model.id
        status = values.get("status")
        argument = {
            "from": legal,
            "fields": encode_fields(Model, values),
            "clear": [field for field, value in values.items() if value is None],
            "member": f"{org} {name}",
            "list_member": _list_member(model),
            "channel": keys.CHANGES_CHANNEL,
            "message": change_message("model", org, name),
            **conditions,
        }
        answer: list[str] = await self._store.run(
            "change_model",
            [
                keys.model(org, name),
                keys.CONTROLLER_EPOCH,
                keys.PREPARING_MODELS,
                keys.models(org, str(status)) if status else "",
                *(keys.models(org, before) for before in legal),
            ],
            [script_argument(argument)],
        )
        return answer


def _list_member(model: Model) -> str:
    return f"{model.order} {model.id}"
