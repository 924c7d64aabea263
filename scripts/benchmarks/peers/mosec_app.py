"""mosec as its documentation has it: one worker, up to 64 requests that come within 2 ms run together."""

from typing import Any

from mosec import Server, Worker
from served_model import ServedModel


class Model(Worker):
    """The model."""

    def __init__(self) -> None:
        self._model = ServedModel()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to the bodies of a batch."""
        results = self._model.predict_together([body["inputs"] for body in data])
        return [{"results": each} for each in results]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Model, num=1, max_batch_size=64, max_wait_time=2)
    server.run()
