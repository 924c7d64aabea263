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
from fyretoolkit.core.metrics import REJECTED
from fyretoolkit.serving.predict import SEND_FEWER

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
        model_id = scope["path"].rpartition(PATH)[2]
        try:
            principal = await admit(scope, self._services, organizations.Scope.PREDICT)
        except PlatformError as error:
            self._count_refusal(scope, model_id, error)
            raise
        check_json(scope["headers"])
        max_bytes = self._services.settings.limits.max_body_bytes
        body = await read_body(scope, receive, max_bytes, advice=SEND_FEWER)
        answer = await self._services.predictor.predict(
            principal, model_id, body, exchange_of(scope).request_id
        )
        await send_json(send, 200, answer)

    def _count_refusal(self, scope: Scope, model_id: str, error: PlatformError) -> None:
        """A caller over its rate limit shows in the metrics of the deployment that it asked for."""
        principal = exchange_of(scope).principal
        if principal is not None and error.code in REJECTED:
            self._services.predictor.count_refusal(principal.org, model_id, error)
