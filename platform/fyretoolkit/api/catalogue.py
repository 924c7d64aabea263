"""The error catalogue as a page: for the description of the API and for `ERRORS.md`."""

from __future__ import annotations

from fyretoolkit.core.errors import CATALOGUE

_PREAMBLE = """# Error codes

Every answer that is not 2xx is `{"error": {"code", "message", "request_id", "details"?}}`; `request_id` equals the
`X-Request-Id` header. Codes are stable; messages name what is wrong with this very request. A retry can help where the
table says so: wait `Retry-After` seconds if the answer has it. Codes without a request of their own (a row of a batch
job, a deployment that failed) stand in `errors_url` and in the `error` of the object.

Written by `scripts/describe` from `core/errors.py`; do not edit.
"""


def error_table() -> str:
    """Every code with its status, whether a retry can help, and what to do: Markdown."""
    rows = [
        f"| `{code}` | {kind.status} | {'yes' if kind.is_retryable else 'no'} | {kind.meaning} | {kind.next_step} |"
        for code, kind in sorted(CATALOGUE.items(), key=lambda entry: (entry[1].status, entry[0]))
    ]
    return "\n".join(("| code | status | retry | meaning | what to do |", "|---|---|---|---|---|", *rows))


def error_page() -> str:
    """The whole of `ERRORS.md`."""
    return f"{_PREAMBLE}\n{error_table()}\n"
