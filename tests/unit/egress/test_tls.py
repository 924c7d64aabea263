"""HTTPS to a pinned address: certificate and SNI stay those of the name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.fetch import Fetched, Timeouts, fetch
from fyretoolkit.egress.pinned import tls_context
from fyretoolkit.egress.urls import Policy

if TYPE_CHECKING:
    from conftest import Origin


def write_certificate(path: Path, host: str) -> None:
    """A self-signed certificate for `host` and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def names(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """Turns the origin to TLS as `good.localhost`, trusted by this process; holds the SNI names it was asked for."""
    seen: list[str | None] = []
    pem = tmp_path / "certificate.pem"
    write_certificate(pem, "good.localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    origin.server.socket = context.wrap_socket(origin.server.socket, server_side=True)
    origin.answer("/", 200, b"abc")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    tls_context.cache_clear()
    yield seen
    tls_context.cache_clear()


async def to_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def download(url: str, destination: Path, policy: Policy) -> Fetched:
    return asyncio.run(
        fetch(
            url,
            destination,
            policy=policy,
            max_bytes=100,
            timeouts=Timeouts(2, 2, 10),
            resolve=to_loopback,
            not_found_code="artifact_not_found",
            unreachable_code="artifact_unreachable",
            too_large_code="artifact_too_large",
        )
    )


def test_the_certificate_is_checked_for_the_name(
    origin: Origin, names: list[str | None], tmp_path: Path, development: Policy
) -> None:
    """The connection goes to 127.0.0.1, and yet SNI, Host and certificate are those of the URL."""
    fetched = download(
        origin.url("/", host="good.localhost", scheme="https"), tmp_path / "model", development
    )
    assert fetched.size_bytes == 3
    assert names == ["good.localhost"]
    assert origin.requests[0][1]["host"] == f"good.localhost:{origin.port}"


@pytest.mark.parametrize("host", ["other.localhost", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused(
    host: str, origin: Origin, names: list[str | None], tmp_path: Path, development: Policy
) -> None:
    """Pinning the address does not loosen the check of the name."""
    with pytest.raises(PlatformError, match="has no valid certificate") as caught:
        download(origin.url("/", host=host, scheme="https"), tmp_path / "model", development)
    assert caught.value.code == "artifact_unreachable"
    assert origin.requests == []


def test_plain_http_on_the_port_is_unreachable(origin: Origin, tmp_path: Path, development: Policy) -> None:
    """https:// to a server without TLS."""
    with pytest.raises(PlatformError) as caught:
        download(origin.url("/", scheme="https"), tmp_path / "model", development)
    assert caught.value.code == "artifact_unreachable"
