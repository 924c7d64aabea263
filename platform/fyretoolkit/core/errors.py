"""Every error the platform may answer with: one stable code, one HTTP status, one next step.

An error carries a decision (is a retry any use? what should the caller do?), so the catalogue is a table read by the
API, the batch pipeline, the documentation and the tests alike. The rejected alternative, one exception class per
code, spreads statuses over the code base and cannot be rendered into a page. Source of the style: Stripe's error
codes; httpx's `_exceptions.py` for foreign errors being translated at one edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What is known of a code before it happens: its HTTP status, whether a retry may help, what to do next."""

    status: int
    is_retryable: bool
    meaning: str
    next_step: str


def _kind(status: int, meaning: str, next_step: str, *, is_retryable: bool = False) -> ErrorKind:
    return ErrorKind(status, is_retryable, meaning, next_step)


_REQUEST: dict[str, ErrorKind] = {
    "invalid_request": _kind(
        400, "The request is malformed.", "Correct the fields named in details.fields and send it again."
    ),
    "malformed_json": _kind(
        400, "The body is not valid JSON.", "Send a JSON object; the message names the position of the first mistake."
    ),
    "invalid_cursor": _kind(
        400, "starting_after is not an id of this list.", "Pass the id of the last object of the page before."
    ),
    "invalid_api_key": _kind(
        401, "The API key is missing or not valid.", "Send it as the Basic auth username: curl -u YOUR_KEY: …"
    ),
    "insufficient_scope": _kind(
        403, "The API key does not carry the scope this call needs.", "Use a key with the scope named in the message."
    ),
    "invalid_signature": _kind(
        403, "The link is not valid, or not any more.",
        "Take a new output_url or errors_url from GET /jobs/{id}, or send an API key.",
    ),
    "host_not_allowed": _kind(
        403, "Development mode answers at localhost alone.",
        "Send the request to http://localhost, or run the platform with --mode production.",
    ),
    "not_found": _kind(404, "Nothing answers at this path.", "Look the path up in /openapi.json."),
    "model_not_found": _kind(404, "No such model.", "List the models with GET /models."),
    "deployment_not_found": _kind(404, "No such deployment.", "List the deployments with GET /deployments."),
    "api_key_not_found": _kind(404, "No such API key.", "List the keys with GET /api_keys."),
    "organization_not_found": _kind(404, "No such organization.", "List them with GET /organizations."),
    "job_not_found": _kind(
        404, "No such batch job.", "List the jobs with GET /jobs, or check the id that POST /batch answered."
    ),
    "delivery_not_found": _kind(
        404, "No such delivery of this job.", "List the deliveries with GET /jobs/{id}/deliveries."
    ),
    "file_not_found": _kind(
        404, "No such file, or it has expired.", "List the files with GET /files, or upload it with POST /files."
    ),
    "method_not_allowed": _kind(
        405, "This path does not take this method.", "Use one of the methods in the Allow header."
    ),
    "request_timeout": _kind(
        408, "The request did not arrive in time.", "Send it again, without pauses.", is_retryable=True
    ),
    "idempotency_key_reused": _kind(
        409, "The idempotency key was used with another body.", "Use a new key for a new request."
    ),
    "model_not_ready": _kind(
        409, "The model, or every deployment of it, is not ready.",
        "Wait until it is ready, deploy it with POST /deployments, or use another model.",
        is_retryable=True,
    ),
    "model_conflict": _kind(
        409, "The model id is in use by other content.", "Choose another model_id for this content."
    ),
    "quota_exceeded": _kind(
        409, "The organization may have no more of this.",
        "Remove what is not needed, or ask the operator to raise the quota named in details.resource.",
    ),
    "api_key_not_active": _kind(
        409, "The API key was revoked or has expired.", "Create another one with POST /api_keys."
    ),
    "api_key_not_changeable": _kind(
        409, "The demo key can be neither rotated nor revoked.", "Create a key with POST /api_keys and use that."
    ),
    "last_admin_key": _kind(
        409, "No other admin key of the organization works as long as this one.",
        "Create another key with the scope admin, then revoke this one.",
    ),
    "model_not_publishable": _kind(
        409, "Only a model in training can be published.", "Register the content under another id with POST /models."
    ),
    "model_in_use": _kind(
        409, "A live deployment serves the model.", "Delete the deployments in details.deployments, then archive it."
    ),
    "deployment_not_changeable": _kind(
        409, "The deployment cannot be changed this way as it is now.", "Read its status with GET /deployments/{id}."
    ),
    "job_not_cancelable": _kind(
        409, "A completed or failed job cannot be canceled.", "Read its result with GET /jobs/{id}."
    ),
    "job_not_retryable": _kind(
        409, "The job cannot be retried as it is.",
        "Wait until GET /jobs/{id} shows that it ended; if its rows are not kept, create a job over the input again.",
        is_retryable=True,
    ),
    "nothing_to_retry": _kind(
        409, "No row of the job failed.", "Read its status and error with GET /jobs/{id}; create the job again."
    ),
    "output_not_ready": _kind(
        409, "The job has no output yet.",
        "Wait until GET /jobs/{id} shows an output_url, or until progress.processed grows.", is_retryable=True,
    ),
    "no_output": _kind(
        409, "The job ended without results.", "Read its status and error with GET /jobs/{id}."
    ),
    "payload_too_large": _kind(
        413, "The body or the list of inputs is too large.",
        "Send it in several requests; many inputs go as one batch with POST /batch.",
    ),
    "unsupported_media_type": _kind(
        415, "The body is not of a type that this path takes, or it is compressed.",
        "Send JSON with -H 'content-type: application/json', a file as a form or as its bytes; neither compressed.",
    ),
    "range_not_satisfiable": _kind(
        416, "The Range header asks for bytes that are not there.", "Ask for a range within Content-Range."
    ),
    "invalid_input": _kind(
        422, "An input does not fit the model's signature.", "Correct the input at the index and path named."
    ),
    "invalid_plan": _kind(422, "The plan is unknown.", "Use one of the plans listed in details.plans."),
    "invalid_region": _kind(422, "The region is unknown.", "Use one of the regions listed in details.regions."),
    "url_not_allowed": _kind(
        422, "The platform may not fetch this URL.",
        "Use a public https:// URL, or one this platform was configured for.",
    ),
    "rate_limit_exceeded": _kind(
        429, "The rate limit of this key is used up.", "Wait for Retry-After seconds.", is_retryable=True
    ),
    "headers_too_large": _kind(431, "The request headers are too large.", "Send fewer or shorter headers."),
    "internal_error": _kind(
        500, "The platform failed.", "Try again; if it stays, give the request_id to the operator.", is_retryable=True
    ),
    "bad_gateway": _kind(502, "A part of the platform did not answer.", "Try again in a moment.", is_retryable=True),
    "unavailable": _kind(
        503, "A part of the platform is not available.", "Try again after Retry-After seconds.", is_retryable=True
    ),
    "overloaded": _kind(
        503, "The deployment has more requests than it can serve.", "Try again after Retry-After seconds.",
        is_retryable=True,
    ),
    "storage_full": _kind(
        507, "The platform's disk has no room left for this.",
        "Delete files that are not needed any more, or ask the operator for more disk.", is_retryable=True,
    ),
    "deadline_exceeded": _kind(
        504, "The answer was not ready within the deadline.", "Try again, or raise options.timeout_ms.",
        is_retryable=True,
    ),
}  # fmt: skip

_DEPLOYMENT: dict[str, ErrorKind] = {
    "artifact_not_found": _kind(422, "There is nothing at model_uri.", "Check the URI, then deploy again."),
    "artifact_too_large": _kind(
        422, "The artifact is larger than the configured limit.", "Reduce it, or raise limits.max_artifact_bytes."
    ),
    "artifact_unreachable": _kind(
        422, "The source of model_uri did not answer.", "Check that the platform can reach it, then deploy again.",
        is_retryable=True,
    ),
    "checksum_mismatch": _kind(
        422, "The content at model_uri is not what sha256 says.",
        "Compare the digests in the message: correct sha256, or the content.",
    ),
    "invalid_package": _kind(
        422, "The model package is not usable.",
        "A package holds model.yaml and model.onnx; the message says what is wrong.",
    ),
    "invalid_manifest": _kind(422, "model.yaml is not valid.", "Correct the field that the message names."),
    "invalid_onnx": _kind(
        422, "The file is not a valid ONNX model.", "Export the model again and check it with onnx.checker."
    ),
    "unsupported_operator": _kind(
        422, "The model uses an operator that is not supported.", "Export it with standard ONNX operators."
    ),
    "signature_mismatch": _kind(
        422, "model.yaml does not fit the model's graph.", "Make inputs and outputs agree with the graph."
    ),
    "load_timeout": _kind(
        422, "The model did not load within the limit.", "Use a smaller model, or raise deployments.load_timeout_s."
    ),
    "warmup_failed": _kind(
        422, "The model loaded but its first inference failed.", "Run the model locally on one input."
    ),
    "no_capacity": _kind(
        422, "No node has the resources that were asked for.", "Ask for less, delete a deployment, or add a node.",
        is_retryable=True,
    ),
    "gpu_unavailable": _kind(
        422, "A GPU was asked for and none is usable.", "Deploy with num_gpus 0, or add a GPU node."
    ),
    "replica_failed": _kind(
        422, "The replica could not start.", "Read the message; the replica's log is in the Ray dashboard.",
        is_retryable=True,
    ),
}  # fmt: skip

_BATCH: dict[str, ErrorKind] = {
    "input_not_found": _kind(422, "There is nothing at input_url.", "Check the URL, then create a new job."),
    "input_unreachable": _kind(
        422, "The source of input_url did not answer.", "Check that the platform can reach it.", is_retryable=True
    ),
    "input_too_large": _kind(422, "The input is larger than the configured limit.", "Split it into several jobs."),
    "input_changed": _kind(
        422, "The input changed while the job was running.", "Create a new job over a file that stays as it is."
    ),
    "invalid_format": _kind(
        422, "The input is neither CSV with a header nor JSONL.", "Name it .csv or .jsonl, encoded as UTF-8."
    ),
    "invalid_row": _kind(422, "The row is not a valid record.", "Correct the row at the line named."),
    "row_failed": _kind(422, "The model failed on this row.", "Run the row through POST /predict to see why."),
    "row_crashed": _kind(
        422, "The model's process died of this row.",
        "Run the model locally on the row: mend the model, or leave the row out.",
    ),
    "all_rows_failed": _kind(422, "Every row failed.", "Read errors_url, correct the input, create a new job."),
    "error_rate_exceeded": _kind(422, "More rows failed than max_error_rate allows.", "Read errors_url."),
    "output_unreachable": _kind(
        422, "The results could not be written to the job's destination.",
        "Take them from output_url; check that the platform may write there.", is_retryable=True,
    ),
    "run_failed": _kind(
        500, "The job's run failed too often.", "Create the job again; if it stays, give its id to the operator.",
        is_retryable=True,
    ),
}  # fmt: skip

CATALOGUE: Mapping[str, ErrorKind] = MappingProxyType({**_REQUEST, **_DEPLOYMENT, **_BATCH})
OF_REQUESTS = frozenset((*_REQUEST, "checksum_mismatch", "row_failed", "run_failed"))
"""What a request may be answered with; every other code stands in the `error` of a deployment, model, job or row."""


class PlatformError(Exception):
    """An outcome the caller must learn of, by a code of the catalogue.

    `message` names what is wrong with this very request and what to do; it is safe to show to the caller. `details`
    is JSON-serializable. `retry_after_s` is whole seconds, given where waiting helps.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        details: Mapping[str, object] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        kind = CATALOGUE[code]
        self.code = code
        self.message = message or f"{kind.meaning} {kind.next_step}"
        self.details = details
        self.retry_after_s = retry_after_s
        super().__init__(f"{code}: {self.message}")

    def __reduce__(self) -> tuple[object, ...]:
        """Crosses process borders (Ray, subprocess) with its code and details kept."""
        return (_rebuild, (self.code, self.message, self.details, self.retry_after_s))

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return CATALOGUE[self.code].status


def _rebuild(
    code: str, message: str, details: Mapping[str, object] | None, retry_after_s: int | None
) -> PlatformError:
    return PlatformError(code, message, details=details, retry_after_s=retry_after_s)
