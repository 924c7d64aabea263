"""Where a replica's own lines go when Serve has put its logger in the place of `sys.stderr`."""

from __future__ import annotations

import subprocess
import sys
import textwrap

REPLICA = """
    import io, logging, sys
    from fyretoolkit.api.edge import Exchange, access_logger, log_request
    from serve_apps.process_log import log_to_the_process

    sys.stderr = io.StringIO()
    log_to_the_process(access_logger, int(sys.argv[1]))
    for status, path in ((404, "/jobs/job_x"), (200, "/predict/digits"), (503, "/predict/digits")):
        log_request("GET", path, Exchange(f"req-{status}", {}, status=status))
    logging.getLogger("fyretoolkit.api.edge").error("it failed")
"""


def lines_at(level: int) -> list[str]:
    """What the process writes to its error output, which Ray has in a file."""
    command = [sys.executable, "-c", textwrap.dedent(REPLICA), str(level)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr.splitlines()


def test_requests_and_failures_reach_the_error_output_of_the_process() -> None:
    """But for predictions that were answered; each line has its time, by which `fyre logs` sorts."""
    missing, overloaded, failure = lines_at(20)
    assert ' INFO fyretoolkit.access {"event": "request", "request_id": "req-404"' in missing
    assert '"status": 503' in overloaded
    assert failure.endswith(" ERROR fyretoolkit.api.edge it failed")
    assert missing[:2] == "20"


def test_predictions_are_logged_where_that_is_wanted() -> None:
    """`ingress.log_predictions`."""
    assert [line.count('"path": "/predict/digits"') for line in lines_at(10)] == [0, 1, 1, 0]
