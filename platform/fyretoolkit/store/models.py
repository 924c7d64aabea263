"""Models in Redis. Demo models belong to `org_public`, which every organization can see."""

from __future__ import annotations

from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import CreationOutcome, create
from fyretoolkit.store.records import from_hash, to_hash


class ModelStore:
    """The repository of models. Models are never deleted, only archived."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def register(self, model: Model) -> Model:
        """Write the model unless its organization has one of this id; the one that is there now."""
        creation = await create(
            self._store,
            record_key=keys.model(model.org, model.id),
            fields=to_hash(model),
            lists={keys.models(model.org): f"{model.order} {model.id}"},
            change=("model", model.org, model.id),
        )
        if creation.outcome is CreationOutcome.CREATED:
            return model
        return from_hash(Model, await self._store.read_hash(keys.model(model.org, model.id)))

    async def get(self, org: str, model_id: str) -> Model | None:
        """The organization's own model of this id, else the public one, else None."""
        own, public = await self._store.read_hashes(
            [keys.model(org, model_id), keys.model(PUBLIC_ORG, model_id)]
        )
        stored = own or public
        return from_hash(Model, stored) if stored else None

    async def page(self, org: str, limit: int, *, after: Model | None = None) -> list[Model]:
        """Newest first, at most `limit` of the organization's own and the public models, all older than `after`."""
        below = f"{after.order} {after.id}" if after else None
        owners = (org, PUBLIC_ORG)
        pages = [await self._store.read_page(keys.models(owner), limit, below=below) for owner in owners]
        entries = sorted(
            ((member, owner) for owner, page in zip(owners, pages, strict=True) for member in page),
            reverse=True,
        )
        stored = await self._store.read_hashes(
            [keys.model(owner, member.partition(" ")[2]) for member, owner in entries[:limit]]
        )
        return [from_hash(Model, fields) for fields in stored if fields]
