"""Why nothing answers a prediction for a model that is known, and what would help."""

from __future__ import annotations

from collections.abc import Sequence

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, DeploymentStatus, ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG

_NAMED = 5


def not_ready(model_id: str, model: Model | None, deployments: Sequence[Deployment]) -> PlatformError:
    """The 409 that names the state of the model, if it is not ready, and of each deployment.

    `model` is None while its first deployment has yet to register it. The message says whether waiting helps.
    """
    details: dict[str, object] = {
        "deployments": [{"id": each.id, "status": each.status, "stage": each.stage} for each in deployments]
    }
    if model is not None and model.status is not ModelStatus.READY:
        details["status"] = model.status
        return PlatformError(
            "model_not_ready",
            f"Model {model_id} is {model.status}, not ready. {_step_of_model(model)}",
            details=details,
        )
    named = ", ".join(f"{each.id} is {_state(each)}" for each in deployments[:_NAMED])
    why = f"has no deployment that takes predictions ({named})" if named else "is not deployed"
    return PlatformError(
        "model_not_ready", f"Model {model_id} {why}. {_next_step(deployments)}", details=details
    )


def _step_of_model(model: Model) -> str:
    if model.status is ModelStatus.ARCHIVED:
        return "Use a model whose status is ready: GET /models?status=ready lists them."
    if model.is_preparing:
        return f"Wait: GET /models/{model.id} says when its content passed inspection; deploy it then."
    return f"Publish its content with POST /models/{model.id}/publish; deploy it once it is ready."


def _state(deployment: Deployment) -> str:
    is_idle = deployment.traffic == 0 and deployment.status in LIVE_DEPLOYMENT
    return f"{deployment.status} with traffic 0" if is_idle else str(deployment.status)


def _next_step(deployments: Sequence[Deployment]) -> str:
    live = [each for each in deployments if each.status in LIVE_DEPLOYMENT]
    for each in live:
        if each.traffic and each.status is not DeploymentStatus.READY:
            return f"Wait until it is ready: GET /deployments/{each.id} says how far it is."
    for each in live:
        if not each.traffic and each.org != PUBLIC_ORG:
            return f'Waiting does not help. Send {{"traffic": 100}} with PATCH /deployments/{each.id}.'
    if deployments and all(each.status is DeploymentStatus.FAILED for each in deployments):
        newest = max(deployments, key=lambda each: each.id)
        return (
            f"Waiting does not help. Read `error` at GET /deployments/{newest.id}, correct what it names, "
            "then deploy again with POST /deployments."
        )
    return "Waiting does not help. Deploy it with POST /deployments."
