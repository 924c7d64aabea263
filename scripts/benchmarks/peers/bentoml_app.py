"""BentoML as its documentation has it: a service of one worker."""

from typing import Any

import bentoml
from served_model import ServedModel


@bentoml.service(workers=1, traffic={"timeout": 30})
class Service:
    """The model."""

    def __init__(self) -> None:
        self._model = ServedModel()

    @bentoml.api(route="/predict")
    async def predict(self, inputs: list) -> dict[str, Any]:  # type: ignore[type-arg]  # read at run time
        """The contract."""
        return {"results": self._model.predict(inputs)}
