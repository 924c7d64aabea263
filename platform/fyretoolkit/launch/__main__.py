"""`python -m fyretoolkit.launch up|down`: the program behind scripts/up, scripts/down and `fyre up|down`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fyretoolkit.launch import commands
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import DEFAULT_HOME, Home


def _parser() -> argparse.ArgumentParser:
    home = Path(os.environ.get("FYRE_HOME") or DEFAULT_HOME)
    parser = argparse.ArgumentParser(prog="fyre", description="Start and stop the platform on this machine.")
    commands_parser = parser.add_subparsers(dest="command", required=True)
    up = commands_parser.add_parser("up", help="start it and wait until it is ready")
    up.add_argument(
        "--detach", action="store_true", help="return when it is ready instead of staying with it"
    )
    up.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("FYRE_PORT") or 8000,
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


def _port(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no port number (--port or FYRE_PORT)") from None


def _home(given: Path) -> Path:
    try:
        return given.expanduser().absolute()
    except RuntimeError:
        raise LaunchError(
            f"There is no user of the name in {given}. Choose another folder with --home."
        ) from None


def main(arguments: list[str]) -> int:
    """Run one command; 0, or 1 after a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        home = _home(options.home)
        if options.command == "down":
            return commands.down(Home(home), is_purged=options.purge)
        mode = os.environ.get("FYRE_MODE") or "development"
        return commands.up(commands.UpOptions(home, options.port, mode, options.detach, not options.no_demo))
    except LaunchError as error:
        print(error, file=sys.stderr)
    except BrokenPipeError:  # whoever read our output has enough of it (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(
            f"Cannot use {error.filename}: {error.strerror}. Choose another folder with --home."
            if error.filename
            else f"The machine refused: {error.strerror or error}.",
            file=sys.stderr,
        )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
