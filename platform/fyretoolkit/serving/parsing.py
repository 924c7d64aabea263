"""From a prediction's body to a request within the limits."""

from __future__ import annotations

from collections.abc import Collection

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import about_field, invalid_field, parse_request
from fyretoolkit.schemas.predictions import PredictionRequest
from fyretoolkit.settings import LimitSettings

SEND_FEWER = "Send the inputs in several requests, or as a batch with POST /batch."


def parse_prediction(body: bytes, limits: LimitSettings, regions: Collection[str]) -> PredictionRequest:
    """The request in a body, within the limits.

    Raises:
        PlatformError: `malformed_json`, `invalid_request`, `payload_too_large`, `invalid_region`.
    """
    request = parse_request(body, PredictionRequest)
    if len(request.inputs) > limits.max_inputs:
        raise PlatformError(
            "payload_too_large",
            f"inputs holds {len(request.inputs)} items; at most {limits.max_inputs} fit in one request. "
            + SEND_FEWER,
        )
    timeout_ms, region = request.options.timeout_ms, request.options.region
    if timeout_ms is not None and timeout_ms > limits.max_timeout_ms:
        raise invalid_field("options.timeout_ms", f"At most {limits.max_timeout_ms}.")
    if region is not None and region not in regions:
        raise unknown_region(region, regions, field="options.region")
    return request


def unknown_region(region: str, regions: Collection[str], *, field: str) -> PlatformError:
    """The 422 that lists the regions there are; `field` is where the request names the unknown one."""
    known = sorted(regions)
    error = PlatformError(
        "invalid_region",
        f"Unknown region {region[:64]!r}. Known: {', '.join(known)}.",
        details={"regions": known},
    )
    return about_field(field, error)
