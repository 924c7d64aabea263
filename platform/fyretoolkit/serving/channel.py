"""The short way between an ingress and the replicas on its machine: one Unix socket a replica.

A call through a Serve handle passes Serve's router, gRPC's own threads and Serve's wrapper of a request, on both
sides: milliseconds of CPU, which a small model's answer does not take. Here it is one write and one read on either
side's own event loop. Handles stay the way to replicas elsewhere and to those that have to be woken
(`serve_apps/replica_call.py`).

A replica listens at `<folder>/<application>/<its pid>`; who finds the file connects. Frames are a length, a number and
a pickle: both sides are processes of one user, in a folder that no other may enter. A replica that ends says so first
(number 0), answers what it has, and is sent nothing more; one that is killed closes its connections, and whoever waits
learns it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, cast

from fyretoolkit.serving.replica import ReplicaLostError

Answer = Callable[[Any], Awaitable[Any]]

_HEAD = struct.Struct("<II")
"""Length of the pickle, number of the call."""
_BYE = 0
_NUMBERS = (1 << 32) - 1
_LOOK_S = 1.0
"""How often the folder of an application in use is looked at."""
_CONNECT_S = 1.0

logger = logging.getLogger(__name__)


class _Frames(asyncio.Protocol, ABC):
    """Frames over one connection, both ways."""

    def __init__(self) -> None:
        self._read = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Frames may be sent."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take every frame that is complete."""
        read = self._read
        read += data
        at = 0
        while len(read) - at >= _HEAD.size:
            length, number = _HEAD.unpack_from(read, at)
            end = at + _HEAD.size + length
            if len(read) < end:
                break
            content = bytes(memoryview(read)[at + _HEAD.size : end])
            at = end
            self.take(number, content)
        if at:
            del read[:at]

    @abstractmethod
    def take(self, number: int, content: bytes) -> None:
        """A frame came."""

    def send(self, number: int, content: bytes) -> None:
        """Send a frame; nothing happens if the other side is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD.pack(len(content), number) + content)

    def close(self) -> None:
        """End the connection once what was sent has left."""
        if self._transport is not None:
            self._transport.close()


class ChannelServer:
    """A replica's end: answers what comes, call by call."""

    def __init__(self, path: Path, answer: Answer) -> None:
        """`answer` gets what a caller sent, and its result is sent back; the caller raises one that is an exception.

        What it raises itself is a defect.
        """
        self._path = path
        self._answer = answer
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[_Callers] = set()
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A file that a killed process of the same pid left is replaced."""
        self._make_room()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Callers(self), str(self._path))

    async def close(self) -> None:
        """Take no more connections, say so on those there are, and answer what came before."""
        if self._server is None:
            return
        self._server.close()
        self._clear_away()
        for connection in self._connections:
            connection.send(_BYE, b"")
        while self._calls:
            await asyncio.wait(self._calls)
        for connection in tuple(self._connections):
            connection.close()

    def _make_room(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _remove(self._path)

    def _clear_away(self) -> None:
        _remove(self._path)
        with contextlib.suppress(OSError):  # another replica of the application is there
            self._path.parent.rmdir()

    def begin(self, connection: _Callers, number: int, content: bytes) -> None:
        """Answer one call."""
        call = asyncio.get_running_loop().create_task(self._run(connection, number, content))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _run(self, connection: _Callers, number: int, content: bytes) -> None:
        try:
            found = await self._answer(pickle.loads(content))  # noqa: S301 - from a process of this user
        except Exception as error:
            logger.exception("A call failed with a defect")
            found = error
        connection.send(number, _pickled(found))

    def joined(self, connection: _Callers) -> None:
        """A caller connected."""
        self._connections.add(connection)

    def left(self, connection: _Callers) -> None:
        """A caller hung up."""
        self._connections.discard(connection)


class _Callers(_Frames):
    """One ingress, as its replica sees it."""

    def __init__(self, server: ChannelServer) -> None:
        super().__init__()
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.joined(self)

    def take(self, number: int, content: bytes) -> None:
        self._server.begin(self, number, content)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - what asyncio gives
        self._server.left(self)


class Channel(_Frames):
    """One replica, as an ingress sees it."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self.is_open = True
        """Whether calls are taken."""

    @property
    def busy(self) -> int:
        """Calls that the replica has, those that nobody waits for any more too."""
        return len(self._pending)

    async def call(self, content: object) -> Any:
        """What the replica answers.

        Raises:
            ReplicaLostError: it ended before it did, or is about to.
            Exception: the replica's own.
        """
        return await self.begin(content)

    def begin(self, content: object) -> asyncio.Future[Any]:
        """Send a call; the same as a future."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.is_open:
            answer.set_exception(ReplicaLostError())
            return answer
        number = next(self._numbers) % _NUMBERS + 1
        self._pending[number] = answer
        self.send(number, pickle.dumps(content, protocol=5))
        return answer

    def take(self, number: int, content: bytes) -> None:
        if number == _BYE:
            self.is_open = False
            return
        answer = self._pending.pop(number)
        if answer.done():
            return
        found = _unpickled(content)
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - what asyncio gives
        self.is_open = False
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ReplicaLostError())
        self._pending.clear()


class Channels:
    """An ingress's channels to the replicas on its machine. Belongs to one event loop."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._open: dict[str, dict[str, Channel]] = {}
        """By application and file name."""
        self._looked_at: dict[str, float] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    async def least_busy(self, application: str) -> Channel | None:
        """The channel to the replica with the fewest calls; None if no replica of the application is here."""
        found = self.at_hand(application)
        if found is None and (look := self._looks.get(application)) is not None:
            await asyncio.shield(look)
            found = self._choose(application)
        return found

    def at_hand(self, application: str) -> Channel | None:
        """The same among the replicas known by now. Others are looked for meanwhile, now and then."""
        is_due = self._clock() - self._looked_at.get(application, -_LOOK_S) >= _LOOK_S
        if is_due and application not in self._looks:
            self._look(application)
        return self._choose(application)

    async def forget(self, applications: frozenset[str]) -> None:
        """Close the channels of all applications but these."""
        for application in self._open.keys() - applications:
            for channel in self._open.pop(application).values():
                channel.close()
            self._looked_at.pop(application, None)

    def _choose(self, application: str) -> Channel | None:
        channels = [channel for channel in self._open.get(application, {}).values() if channel.is_open]
        return min(channels, key=lambda channel: channel.busy, default=None)

    def _look(self, application: str) -> None:
        self._looked_at[application] = self._clock()
        look = asyncio.get_running_loop().create_task(self._connect(application))
        self._looks[application] = look
        look.add_done_callback(lambda _: self._looks.pop(application, None))

    async def _connect(self, application: str) -> None:
        """Open channels to the replicas that have none, forget those that are closed."""
        known = self._open.setdefault(application, {})
        for name in [name for name, channel in known.items() if not (channel.is_open or channel.busy)]:
            known.pop(name).close()
        for path in _sockets_in(self._folder / application):
            if path.name not in known:
                await self._connect_to(path, known)

    async def _connect_to(self, path: Path, known: dict[str, Channel]) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                loop = asyncio.get_running_loop()
                _, known[path.name] = await loop.create_unix_connection(Channel, str(path))
        except ConnectionRefusedError:  # left by a process that was killed
            _remove(path)
        except (OSError, TimeoutError) as error:
            logger.warning("No channel to %s: %r", path, error)


def _pickled(found: object) -> bytes:
    """What is sent back, whatever it is: a call without an answer would hold its place at the replica for good."""
    try:
        return pickle.dumps(found, protocol=5)
    except Exception as error:
        logger.exception("An answer could not be written")
        return pickle.dumps(RuntimeError(f"{type(found).__name__}: {error!r}"), protocol=5)


def _unpickled(content: bytes) -> Any:
    """What came back, or the exception that says why it cannot be read."""
    try:
        return pickle.loads(content)  # noqa: S301 - from a process of this user
    except Exception as error:  # noqa: BLE001 - whatever an exception's constructor may raise
        return error


def _sockets_in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
