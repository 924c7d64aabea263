"""`python -m fyretoolkit.launch up|down`: the program behind scripts/up, scripts/down and `fyre up|down`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fyretoolkit.launch import commands
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import PROJECT_ROOT, Home


def _parser() -> argparse.ArgumentParser:
    home = Path(os.environ.get("FYRE_HOME") or PROJECT_ROOT / ".fyre")
    parser = argparse.ArgumentParser(prog="fyre", description="Start and stop the platform on this machine.")
    commands_parser = parser.add_subparsers(dest="command", required=True)
    up = commands_parser.add_parser("up", help="start it and wait until it is ready")
    up.add_argument(
        "--detach", action="store_true", help="return when it is ready instead of staying with it"
    )
    up.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("FYRE_PORT") or 8000),
        help="of the HTTP API (default: 8000)",
    )
    up.add_argument("--home", type=Path, default=home, help="folder of its durable state (default: .fyre)")
    up.add_argument("--no-demo", action="store_true", help="do not register the demo models")
    down = commands_parser.add_parser("down", help="stop it; its state is kept")
    down.add_argument("--home", type=Path, default=home, help="folder of its durable state (default: .fyre)")
    down.add_argument(
        "--purge", action="store_true", help="remove its state too: models, jobs, deployments, keys"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Run one command; 0, or 1 after a sentence on stderr."""
    options = _parser().parse_args(arguments)
    home = options.home.expanduser().absolute()
    try:
        if options.command == "down":
            return commands.down(Home(home), is_purged=options.purge)
        mode = os.environ.get("FYRE_MODE") or "development"
        return commands.up(commands.UpOptions(home, options.port, mode, options.detach, not options.no_demo))
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
