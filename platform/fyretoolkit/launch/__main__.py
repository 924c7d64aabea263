"""`python -m fyretoolkit.launch up|down|admin-key|doctor`: the program behind scripts/up, scripts/down and `fyre`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from fyretoolkit.launch import commands, operator_keys
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
    _add_port(up)
    _add_home(up, home)
    up.add_argument("--no-demo", action="store_true", help="do not register the demo models")
    _add_exposure(up)
    down = commands_parser.add_parser("down", help="stop it; its state is kept")
    _add_home(down, home)
    down.add_argument(
        "--purge", action="store_true", help="remove its state too: models, jobs, deployments, keys"
    )
    admin_key = commands_parser.add_parser(
        "admin-key", help="make one more operator key for the running platform and print it"
    )
    _add_home(admin_key, home)
    doctor = commands_parser.add_parser("doctor", help="print what was found of this machine, as JSON")
    _add_port(doctor)
    _add_home(doctor, home)
    return parser


def _add_port(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("FYRE_PORT") or 8000,
        help="of the HTTP API (default: 8000)",
    )


def _add_home(parser: argparse.ArgumentParser, default: Path) -> None:
    parser.add_argument(
        "--home", type=Path, default=default, help="folder of its durable state (default: .fyre)"
    )


def _add_exposure(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--mode",
        choices=("development", "production"),
        default=os.environ.get("FYRE_MODE") or "development",
        help="development has a public demo key and demo models, and reads local files (default: FYRE_MODE, "
        "else development)",
    )
    up.add_argument(
        "--host",
        help="address on which the API listens besides 127.0.0.1; other machines reach it in production mode alone, "
        "and only with --tls-terminated (default: FYRE_HOST, else 127.0.0.1)",
    )
    up.add_argument(
        "--tls-terminated",
        action="store_true",
        help="a TLS proxy stands in front: the platform itself speaks plain HTTP (FYRE_TLS_TERMINATED=1)",
    )
    up.add_argument(
        "--public-url",
        help="where callers reach it, for the links in its answers, as https://api.example.com (FYRE_PUBLIC_URL)",
    )


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


def _print_findings(home: Home, port: int) -> int:
    from fyretoolkit.launch.checkup import examine  # what it looks with is of no use to `up`

    print(json.dumps([asdict(finding) for finding in examine(home, port, os.environ)]))
    return 0


def main(arguments: list[str]) -> int:
    """Run one command; 0, or 1 after a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        home = _home(options.home)
        if options.command == "down":
            return commands.down(Home(home), is_purged=options.purge)
        if options.command == "admin-key":
            return operator_keys.print_another(Home(home))
        if options.command == "doctor":
            return _print_findings(Home(home), options.port)
        return commands.up(
            commands.UpOptions(
                home,
                options.port,
                options.mode,
                is_detached=options.detach,
                has_demo=options.mode == "development" and not options.no_demo,
                host=options.host,
                is_tls_terminated=options.tls_terminated,
                public_url=options.public_url,
            )
        )
    except LaunchError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:  # before anything was started
        return 130
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
