"""Keys of whoever runs the platform, made and printed by one and the same process.

`up` itself makes the first one in production mode, once the platform answers, through the store that it shares with
it. The bootstrap could make it earlier, but its words go into files, and a pipe or file through the supervisor to the
terminal would be one more place from which a secret leaks; so the secret is in this process's memory, then on its
standard output, and nowhere else. A lost key is replaced by `admin-key`, for who owns the home: they could read and
change all that is in it anyhow.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import DEFAULT_HOME, PROJECT_ROOT, Home, script_for
from fyretoolkit.launch.state import RunState, read_state
from fyretoolkit.store.connection import Store
from fyretoolkit.store.embedded import configured_url, url_of
from fyretoolkit.store.organizations import create_first_admin, create_operator_key

T = TypeVar("T")


def print_first(home: Home, state: RunState) -> None:
    """Print the first operator key, if no operator key works yet. A store that fails is no reason to stop."""
    try:
        key = _with_store(state, create_first_admin)
    except (PlatformError, LaunchError) as error:
        print(f"\nThe first key could not be made: {error} Make it with {command_for(home)}", flush=True)
        return
    if key:
        print(_shown(home, "The first key, for the organization `operators`", key), flush=True)


def print_another(home: Home) -> int:
    """Print one more operator key of the running platform. The exit code.

    Raises:
        LaunchError: somebody else's home, or no platform runs there.
    """
    _check_owner(home)
    state = read_state(home)
    if state is None or not state.is_alive():
        raise LaunchError(
            f"No platform is running in {home.root}: start it with {script_for('up', home.root)}."
        )
    try:
        key = _with_store(state, create_operator_key)
    except PlatformError as error:
        raise LaunchError(error.message) from error
    print(_shown(home, "An operator key", key), flush=True)
    return 0


def command_for(home: Home) -> str:
    """The command line that makes another operator key, as it can be typed."""
    command = f"{shlex.quote(str(PROJECT_ROOT / '.venv' / 'bin' / 'fyre'))} keys bootstrap"
    is_default = home.root == DEFAULT_HOME and not os.environ.get("FYRE_HOME")
    return command if is_default else f"{command} --home {shlex.quote(str(home.root))}"


def _shown(home: Home, what: str, key: str) -> str:
    return (
        f"\n{what}, with every scope:\n\n    {key}\n\n"
        f"It is shown this once and kept nowhere. If it is lost: {command_for(home)}"
    )


def _check_owner(home: Home) -> None:
    owner = home.root.stat().st_uid
    if owner != os.geteuid():
        raise LaunchError(
            f"{home.root} belongs to {_name_of(owner)}, who alone may make an operator key for it."
        )


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a user of another machine, or of the host of a container
        return f"the user {user}"


def _with_store(state: RunState, act: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = Store(_redis_url(state))
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _redis_url(state: RunState) -> str:
    """The run's own Redis, else the one that the environment names."""
    socket = Path(state.runtime_dir) / "redis.sock"
    url = url_of(socket) if socket.exists() else configured_url(os.environ)
    if url is None:
        raise LaunchError("The platform uses a Redis of yours: set FYRE_REDIS_URL as it was for its start.")
    return url
