"""A world in which every address of the internet is this machine: a network of its own, names of its own.

In a network namespace the loopback device takes every IPv4 and IPv6 address (Linux' "AnyIP"), so that whoever connects
to 169.254.169.254 or to a server on the internet is really accepted here, and seen. Connections to ports without a
listener are seen too: the kernel counts those that were tried. Names come from a DNS server of the trial through the
system's own resolver. It needs `unshare` and `ip`, and a system that permits user namespaces.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scripts.trials.hostile.catalogue import PUBLIC, REDIRECTS

_ADDRESS, _OTHER, _ADDRESS_V6 = "93.184.215.14", "93.184.215.15", "2606:2800:21f:cb07::1"
OPEN_ADDRESSES = frozenset({_ADDRESS, _OTHER, _ADDRESS_V6})
"""The only ones that may be connected to."""
_A, _AAAA = 1, 28
_BREAKS, _HEARD_S = "/breaks", 2.0
_END = "Content-Length: 0\r\nConnection: close\r\n\r\n"
_LISTENED = (443, 80, 22, 25, 6379, 8000, 8080, 8265)
_ENTER = """
ip link set lo up
ip route replace local default dev lo table local
ip -6 route replace local default dev lo table local
echo 'nameserver 127.0.0.1' > "$1"
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
"""

NAMES: dict[str, Sequence[Sequence[str]]] = {
    # what each question is answered with, the last answer for ever
    PUBLIC: [[_ADDRESS]],
    "loopback": [["127.0.0.1"]],
    "loopback-v6": [["::1"]],
    "metadata": [["169.254.169.254"]],
    "private": [["10.1.2.3"]],
    "shared": [["100.100.100.200"]],
    "azure": [["168.63.129.16"]],
    "unspecified": [["0.0.0.0"]],  # noqa: S104 - an answer of the trial's name server
    "multicast": [["224.0.0.251"]],
    "mapped": [["::ffff:127.0.0.1"]],
    "nat64": [["64:ff9b::a9fe:a9fe"]],
    "six-to-four": [["2002:7f00:1::"]],
    "unique-local": [["fd00:ec2::254"]],
    "one-of-two": [[_ADDRESS, "127.0.0.1"]],
    "one-of-six": [[_ADDRESS, _OTHER, _ADDRESS, _OTHER, _ADDRESS, "169.254.169.254"]],
    "one-of-each-family": [[_ADDRESS, "::1"]],
    "alias": [["127.0.0.1"]],
    "private-then-public": [["192.168.0.1"], [_ADDRESS]],
    "public-once": [[_ADDRESS], ["127.0.0.1"]],
    "public-at-first": [[_ADDRESS], ["169.254.169.254"]],
}


def is_possible() -> bool:
    """Whether this system lets a process have such a world."""
    if not all(map(shutil.which, ("unshare", "ip", "mount"))):
        return False
    asked = subprocess.run(_entered("true", Path("/dev/null")), capture_output=True, check=False)
    return asked.returncode == 0


def entered(folder: Path, module: str) -> list[str]:
    """The command that runs a module of ours in such a world; `folder` is its own."""
    return _entered(sys.executable, folder / "resolv.conf", "-m", module, str(folder))


def _entered(program: str, resolver: Path, *arguments: str) -> list[str]:
    inside = ["sh", "-ec", _ENTER, "enter", str(resolver), program, *arguments]
    return ["unshare", "--map-root-user", "--net", "--mount", "--", *inside]


class World:
    """What answers in such a world, and what was connected to. Made inside of it."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        write_certificate(self.certificate, [PUBLIC, "*.hostile.example"])
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate)
        self._asked: Counter[str] = Counter()
        self.connections: list[tuple[str, int]] = []
        """Address and port of each, as whoever connected named them."""
        self._before = _connections_tried()
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind(("127.0.0.1", 53))
        threading.Thread(target=self._answer_names, args=(names,), daemon=True).start()
        for port in _LISTENED:
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()

    @property
    def tried(self) -> int:
        """How many connections were begun in this world, to whichever port of whichever address."""
        return _connections_tried() - self._before

    @property
    def forbidden(self) -> list[str]:
        """What was connected to and must not be."""
        open_ports = {(address, 443) for address in OPEN_ADDRESSES}
        return [
            f"{address} port {port}"
            for address, port in self.connections
            if (address, port) not in open_ports
        ]

    def begin_anew(self) -> None:
        """Names are answered as if nobody had asked for them."""
        self._asked.clear()

    def _answer_names(self, names: socket.socket) -> None:
        while True:
            question, sender = names.recvfrom(512)
            names.sendto(self._answer(question), sender)

    def _answer(self, message: bytes) -> bytes:
        """One question of RFC 1035, with every record of its kind that there is."""
        labels, at = [], 12
        while size := message[at]:
            labels.append(message[at + 1 : at + 1 + size].decode())
            at += 1 + size
        kind = struct.unpack("!H", message[at + 1 : at + 3])[0]
        name = ".".join(labels).lower()
        answers = NAMES.get(name) or NAMES.get(name.removesuffix(".hostile.example"), [[]])
        turn = 0
        if kind == _A:
            turn, self._asked[name] = self._asked[name], self._asked[name] + 1
        version = {_A: 4, _AAAA: 6}.get(kind)
        found = [ip_address(each) for each in answers[min(turn, len(answers) - 1)]]
        records = [each.packed for each in found if each.version == version]
        body = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(each)) + each for each in records)
        header = message[:2] + struct.pack("!HHHHH", 0x8580, 1, len(records), 0, 0)
        return header + message[12 : at + 5] + body

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            connection, _ = listener.accept()
            address = str(connection.getsockname()[0]).removeprefix("::ffff:")
            self.connections.append((address, port))
            threading.Thread(target=self._serve, args=(connection, address, port), daemon=True).start()

    def _serve(self, connection: socket.socket, address: str, port: int) -> None:
        with suppress(OSError), connection:
            if port != 443 or address not in OPEN_ADDRESSES:
                return
            with self._tls.wrap_socket(connection, server_side=True) as stream:
                stream.settimeout(_HEARD_S)
                path = stream.recv(1 << 16).decode("latin-1").split(" ")[1]
                stream.sendall(_response(path))
                while path != _BREAKS and stream.recv(1 << 16):
                    """What comes behind the head of a POST: unread, it would reset the connection."""


def _response(path: str) -> bytes:
    if path == _BREAKS:
        return (
            b'HTTP/1.1 200 OK\r\nETag: "1"\r\nAccept-Ranges: bytes\r\nContent-Length: 1000\r\n\r\n{"a": 1}\n'
        )
    targets = {f"/to/{number}": target for number, target in enumerate(REDIRECTS)}
    targets |= {"/twice/0": "/twice/1", "/twice/1": "https://metadata.hostile.example/", "/here": "/here"}
    if path in targets:
        return f"HTTP/1.1 302 Found\r\nLocation: {targets[path]}\r\n{_END}".encode()
    return f"HTTP/1.1 404 Not Found\r\n{_END}".encode()


def _connections_tried() -> int:
    """Of this network namespace, both families (RFC 4022, tcpActiveOpens)."""
    names, values = [
        line.split()
        for line in Path("/proc/self/net/snmp").read_text("ascii").splitlines()
        if line.startswith("Tcp:")
    ]
    return int(values[names.index("ActiveOpens")])


def write_certificate(path: Path, names: Sequence[str]) -> None:
    """A self-signed certificate for the names and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
