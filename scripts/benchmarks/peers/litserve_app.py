"""LitServe as its documentation has it: one worker, up to 64 requests that come within 2 ms run together."""

import sys
from typing import Any

import litserve
from served_model import ServedModel


class Api(litserve.LitAPI):
    """The model."""

    def setup(self, device: str) -> None:
        """Load it; `device` is the CPU."""
        assert device == "cpu"
        self._model = ServedModel()

    def decode_request(self, request: dict[str, Any]) -> list[Any]:
        """The items of a body."""
        items: list[Any] = request["inputs"]
        return items

    def batch(self, inputs: list[list[Any]]) -> list[list[Any]]:
        """As they are."""
        return inputs

    def predict(self, x: list[list[Any]]) -> list[list[dict[str, Any]]]:
        """The results of each request."""
        return self._model.predict_together(x)

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """As they are."""
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer to one request."""
        return {"results": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=64, batch_timeout=0.002), accelerator="cpu", workers_per_device=1
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
