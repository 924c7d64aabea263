"""Ray Serve as its tutorials have it: a FastAPI ingress that calls a model deployment with `@serve.batch`.

`ray_serve_app.py PORT FOLDER` starts a Ray of its own with its files in FOLDER and ends it at SIGTERM.
"""

import signal
import sys
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve.handle import DeploymentHandle
from served_model import ITEM, ServedModel

app = FastAPI()


class Request(BaseModel):
    """The body."""

    inputs: list[ITEM]


@serve.deployment(max_ongoing_requests=256)
class Model:
    """The model; requests that come within 2 ms are run together."""

    def __init__(self) -> None:
        self._model = ServedModel()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def predict(self, requests: list[list[Any]]) -> list[list[dict[str, Any]]]:
        """The results of each request."""
        return self._model.predict_together(requests)


@serve.deployment(max_ongoing_requests=256)
@serve.ingress(app)
class Ingress:
    """The HTTP side."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model

    @app.post("/predict")
    async def predict(self, request: Request) -> dict[str, Any]:
        """The contract."""
        return {"results": await self._model.predict.remote(request.inputs)}


def main(port: int, folder: str) -> None:
    """Serve until SIGTERM."""
    # Logical CPUs: enough for Serve's actors to be placed; the processes share what the machine has.
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Ingress.bind(Model.bind()), name="peer", route_prefix="/")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # after ray.init, which sets one of its own
    try:
        signal.pause()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
