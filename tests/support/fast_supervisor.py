"""The real supervisor and the real Redis over a stand-in for Ray, which takes 15 s to start.

The stand-in behaves as `ray start --block` does towards its supervisor: it says that it has started, has a
child in a group of its own, and stays. `FAKE_RAY=fails` makes it end at once, `lingers` makes its child ignore
SIGTERM; `FAKE_BOOTSTRAP=fails` makes the bootstrap report a failure, `without_models` one of its last stage each time
but the first.
"""

from __future__ import annotations

import os
import sys

from fyretoolkit.launch import children, supervisor

RAY = """
import os, subprocess, sys, time
if os.environ.get("FAKE_RAY") == "fails":
    sys.exit(7)
wait = "import time; time.sleep(600)"
if os.environ.get("FAKE_RAY") == "lingers":
    wait = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + wait
subprocess.Popen([sys.executable, "-c", wait], process_group=0)
print("Ray runtime started.", flush=True)
time.sleep(600)
"""
BOOTSTRAP = """
import json, os, sys
assert sys.stdin.readline() == "go\\n"
print(json.dumps({"stage": "serve", "state": "start", "message": ""}), flush=True)
if os.environ.get("FAKE_BOOTSTRAP") == "fails":
    print(json.dumps({"stage": "serve", "state": "failed", "message": "the reason"}), flush=True)
    sys.exit(1)
print(json.dumps({"stage": "serve", "state": "done", "message": "2 proxies"}), flush=True)
if os.environ.get("FAKE_BOOTSTRAP") == "without_models":
    started = os.path.join(os.environ["FYRE_HOME"], "started")
    if os.path.exists(started):
        print(json.dumps({"stage": "models", "state": "failed", "message": "the reason"}), flush=True)
        sys.exit(1)
    open(started, "w").close()
"""


def main() -> int:
    """Run the supervisor with this process's arguments."""
    children.ray_head_arguments = lambda copy: [sys.executable, "-c", RAY]
    children.bootstrap_arguments = lambda module: [sys.executable, "-c", BOOTSTRAP]
    os.environ.pop("FYRE_REDIS_URL", None)
    return supervisor.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
