"""ONNX Runtime in a FastAPI endpoint, in one uvicorn process: the least that one can write."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from served_model import ITEM, ServedModel

app = FastAPI()
model = ServedModel()


class Request(BaseModel):
    """The body."""

    inputs: list[ITEM]


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """The contract."""
    return {"results": model.predict(request.inputs)}
