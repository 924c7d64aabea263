"""`POST /predict/{model_id}` over plain ASGI: no dependency graph and no request object on the hottest path."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from fyretoolkit.api.dependencies import admit
from fyretoolkit.api.edge import Edge, exchange_of
from fyretoolkit.api.requests import check_json, read_body
from fyretoolkit.api.responses import send_error, send_json
from fyretoolkit.api.services import Services
from fyretoolkit.core import organizations
from fyretoolkit.core.errors import PlatformError

PATH = "/predict/"


class PredictEndpoint:
    """An ASGI app for the predict path alone; mounted in the FastAPI app, and complete when served by itself."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._app = Edge(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            request = exchange_of(scope).request_id
            await send_error(send, PlatformError("method_not_allowed"), request, [(b"allow", b"POST")])
            return
        principal = await admit(scope, self._services.keys, organizations.Scope.PREDICT)
        check_json(scope["headers"])
        body = await read_body(scope, receive, self._services.settings.limits.max_body_bytes)
        model_id = scope["path"].rpartition(PATH)[2]
        answer = await self._services.predictor.predict(
            principal, model_id, body, exchange_of(scope).request_id
        )
        await send_json(send, 200, answer)
