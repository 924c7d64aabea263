"""URLs that callers give: one strict parser, and the policy that says which of them may be fetched.

URL parsers disagree (`http://good.example\\@127.0.0.1/` is two different hosts to two of them, and several drop a tab
in silence), and a guard that parses with one and connects with another guards nothing. So a URL is parsed once, here,
by the grammar of RFC 3986 with every lenient reading taken out; what goes over the wire is rebuilt from the parts.
The rejected alternative, `urllib.parse` or `httpx.URL` plus a block-list of strings, is what those tricks are made for.
Nothing in this module does I/O: what a name resolves to is checked when it is fetched (`pinned.py`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import PREFIX, URI_PREFIX, file_id_of
from fyretoolkit.core.ids import is_id
from fyretoolkit.egress.addresses import IpAddress, is_forbidden, is_loopback
from fyretoolkit.settings import S3Settings, Settings

MAX_URL_CHARS = 8192
_MAX_HOST_CHARS = 253
_MAX_KEY_BYTES = 1024
_DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})
_VISIBLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?")
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class UnsafeUrlError(ValueError):
    """A text is not a URL that every parser would read alike; the message says why and never repeats the text."""


class Purpose(StrEnum):
    """What a URL is for: it decides the schemes."""

    SOURCE = "source"
    """`input_url` and `model_uri`: the platform reads from it."""
    WEBHOOK = "webhook"
    """`webhook`: the platform posts to it; never a file, never redirected."""


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """The parts of a URL that passed the parser.

    `host` is lower-case ASCII without brackets, empty for a file; `port` is None for a file. `path` is the decoded
    absolute path for a file, else the escaped path as it is sent; `query` is as it is sent, without its `?`. An
    uploaded file has the scheme `fyre`, the host `files` and its id behind the path's slash; an object has the scheme
    `s3`, its bucket as the host and its key behind the path's slash.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: str = ""

    @property
    def address(self) -> IpAddress | None:
        """The host as an address, None when it is a name."""
        return _literal_address(self.host)

    @property
    def is_named_loopback(self) -> bool:
        """Whether the URL itself says that it means this machine: a loopback address or `localhost`."""
        if (address := self.address) is not None:
            return is_loopback(address)
        return self.host == "localhost" or self.host.endswith(".localhost")

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host if self.port == _DEFAULT_PORTS.get(self.scheme) or not self.port else f"{host}:{self.port}"
        )

    @property
    def target(self) -> str:
        """What follows the request method."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def object_path(self) -> str:
        """Bucket and key of an object, decoded, as clients of object storage take them."""
        return f"{self.host}{unquote(self.path)}"

    @property
    def is_object_folder(self) -> bool:
        """Whether it names what several keys begin with, rather than one object."""
        return self.scheme == "s3" and self.path.endswith("/")

    @property
    def file_name(self) -> str:
        """The last part of the path, decoded, empty if there is none. Of an uploaded file it is the id."""
        name = PurePosixPath(self.path).name
        return name if self.scheme == "file" else unquote(name)

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a signature: safe to log and to answer with."""
        path = quote(self.path) if self.scheme == "file" else self.path
        return f"{self.scheme}://{self.authority}{path}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be fetched. `ports` binds public hosts; a loopback host, where allowed, may have any port."""

    schemes: frozenset[str]
    ports: frozenset[int]
    max_redirects: int
    is_loopback_allowed: bool = False
    file_roots: tuple[Path, ...] = ()
    hidden_roots: tuple[Path, ...] = ()
    """Folders that are never read, even beneath a file root."""
    bucket_roots: tuple[str, ...] = ()
    """`bucket` or `bucket/prefix`: what the platform's credentials may read for a caller."""
    hidden_buckets: tuple[str, ...] = ()
    """The same of what they never read for one."""
    storage: S3Settings = field(default_factory=S3Settings)
    """How those buckets are reached."""

    def after(self, url: ParsedUrl) -> Policy:
        """The policy for where `url` redirects to: no file, no way from public into loopback or from https to http."""
        schemes = {"https"} if url.scheme == "https" else {"https", "http"}
        return replace(
            self,
            schemes=self.schemes & schemes,
            is_loopback_allowed=self.is_loopback_allowed and url.is_named_loopback,
        )

    def describe(self) -> str:
        """One sentence on what is allowed, for the messages of refusals."""
        schemes = " or ".join(f"{scheme}://" for scheme in ("https", "http") if scheme in self.schemes)
        ports = " or ".join(map(str, sorted(self.ports)))
        parts = [f"a public host with {schemes} on port {ports}"]
        if self.is_loopback_allowed:
            parts.append("localhost on any port")
        if "file" in self.schemes and self.file_roots:
            parts.append("file:// beneath " + " or ".join(map(str, self.file_roots)))
        if self.bucket_roots:
            parts.append("s3:// beneath " + " or ".join(self.bucket_roots))
        if "fyre" in self.schemes:
            parts.append(f"an uploaded file with {URI_PREFIX}<id>")
        return f"Allowed: {'; '.join(parts)}."


# Kernel and runtime state, where a "regular file" may be another process's environment or a mounted secret.
_SYSTEM_ROOTS = tuple(map(Path, ("/proc", "/sys", "/dev", "/run")))


def policy_from(settings: Settings, purpose: Purpose = Purpose.SOURCE) -> Policy:
    """The policy of this platform: https to public hosts, uploads, and the buckets that its operator lists.

    In development also http, loopback and files. The platform's own home and its artifact store are never read through
    a URL: they hold every organization's objects.
    """
    egress = settings.egress
    is_source = purpose is Purpose.SOURCE
    policy = Policy(
        schemes=frozenset({"https", "fyre", "s3"} if is_source else {"https"}),
        ports=frozenset(egress.ports),
        max_redirects=egress.max_redirects if is_source else 0,
        bucket_roots=tuple(root.rstrip("/") for root in egress.s3.roots) if is_source else (),
        hidden_buckets=(settings.artifacts_bucket,) if settings.artifacts_bucket else (),
        storage=egress.s3,
    )
    if not settings.is_development:
        return policy
    roots = egress.development_file_roots if is_source else ()
    return replace(
        policy,
        schemes=policy.schemes | ({"http", "file"} if roots else {"http"}),
        is_loopback_allowed=True,
        file_roots=roots,
        hidden_roots=(*_SYSTEM_ROOTS, settings.home, settings.artifacts_dir),
    )


def parse_url(text: str) -> ParsedUrl:
    """The parts of an http, https, file or s3 URL, or of an uploaded file's.

    Raises:
        UnsafeUrlError: the text is not such a URL, or two parsers could read it differently.
    """
    _refuse_unsafe_characters(text)
    if (match := _URL.fullmatch(text)) is None:
        raise UnsafeUrlError("it is not an absolute URL such as https://example.com/file.csv")
    scheme, authority, path, query = match[1].lower(), match[2], match[3], match[4]
    if scheme == "file":
        return _parse_file(authority, path, has_suffix=query is not None or match[5] is not None)
    if scheme == "fyre":
        return _parse_upload(text)
    if scheme == "s3":
        return _parse_object(authority, path, has_suffix=query is not None or match[5] is not None)
    if scheme not in _DEFAULT_PORTS:
        raise UnsafeUrlError("its scheme is not supported")
    host, port = _parse_authority(authority)
    return ParsedUrl(scheme, host, port or _DEFAULT_PORTS[scheme], _escape(path) or "/", _escape(query or ""))


def join_url(base: ParsedUrl, location: str) -> ParsedUrl:
    """Where a redirect from `base` leads.

    Raises:
        UnsafeUrlError: the Location header is not a URL that every parser would read alike.
    """
    _refuse_unsafe_characters(location)
    if location.startswith("//"):
        return parse_url(f"{base.scheme}:{location}")
    if _HAS_SCHEME.match(location):  # urljoin would take `http:///x` for a path on the same host
        return parse_url(location)
    return parse_url(urljoin(f"{base.scheme}://{base.authority}{base.target}", location))


def check_url(text: str, policy: Policy) -> ParsedUrl:
    """`text` parsed, if the policy lets it be fetched as far as can be told without a network or a disk.

    Raises:
        PlatformError: `url_not_allowed`; the message says what is wrong and what is allowed.
    """
    try:
        url = parse_url(text)
    except UnsafeUrlError as error:
        raise refusal(str(error), policy) from error
    check_parsed(url, policy)
    return url


def check_parsed(url: ParsedUrl, policy: Policy) -> None:
    """Refuses a parsed URL that the policy does not allow; see `check_url`."""
    if url.scheme not in policy.schemes:
        raise refusal(f"{url.scheme}:// is not allowed here", policy)
    if url.scheme == "file":
        check_file_path(url.path, policy)
        return
    if url.scheme == "s3":
        _check_bucket(url, policy)
        return
    if url.scheme == "fyre":
        return
    allow_loopback = policy.is_loopback_allowed
    if (address := url.address) is not None and is_forbidden(address, allow_loopback=allow_loopback):
        raise refusal(f"{url.host} is not a public address", policy)
    if url.is_named_loopback and not allow_loopback:
        raise refusal(f"{url.host} is not a public host", policy)
    if not url.is_named_loopback and url.port not in policy.ports:
        raise refusal(f"port {url.port} is not allowed", policy)


def check_file_path(path: str, policy: Policy) -> None:
    """Refuses an absolute path outside the file roots or inside a hidden one, by its text alone.

    Raises:
        PlatformError: `url_not_allowed`.
    """
    if not any(Path(path).is_relative_to(root) for root in policy.file_roots):
        raise refusal("the file is outside the folders that the platform may read", policy)
    if any(Path(path).is_relative_to(root) for root in policy.hidden_roots):
        raise refusal("the file is in a folder that the platform never reads for a caller", policy)


def _check_bucket(url: ParsedUrl, policy: Policy) -> None:
    """Refuses what the operator has not listed: the platform's credentials read more than any caller may."""
    place = url.object_path
    if not any(place.startswith(f"{root}/") for root in policy.bucket_roots):
        raise refusal(
            f"{url.shown} is in no bucket that the platform may read; its operator lists those in egress.s3.roots",
            policy,
        )
    if any(place.startswith(f"{root}/") for root in policy.hidden_buckets):
        raise refusal("the object is where the platform keeps its own, which it reads for no caller", policy)


def refusal(reason: str, policy: Policy) -> PlatformError:
    """The one shape of a refused URL."""
    return PlatformError("url_not_allowed", f"The URL may not be used: {reason}. {policy.describe()}")


def _refuse_unsafe_characters(text: str) -> None:
    if len(text) > MAX_URL_CHARS:
        raise UnsafeUrlError(f"it is longer than {MAX_URL_CHARS} characters")
    if any(character == " " or not character.isprintable() for character in text):
        raise UnsafeUrlError("it holds a space or a control character; write a space as %20")
    if "\\" in text:
        raise UnsafeUrlError("it holds a backslash; write / or %5C")
    if _BAD_ESCAPE.search(text):
        raise UnsafeUrlError("it holds a % that does not begin an escape; write it as %25")


def _escape(part: str) -> str:
    """Non-ASCII characters as UTF-8 escapes; everything else stays as the caller wrote it."""
    return quote(part, safe=_VISIBLE_ASCII)


def _parse_file(authority: str, path: str, *, has_suffix: bool) -> ParsedUrl:
    if authority.lower() not in ("", "localhost"):
        raise UnsafeUrlError("a file URL has no host: write three slashes, file:///path")
    decoded = _decode_path(path, "a file URL", has_suffix=has_suffix)
    if not decoded.startswith("/") or ".." in decoded.split("/"):
        raise UnsafeUrlError("its path is not absolute, or it holds a .. segment")
    return ParsedUrl("file", "", None, posixpath.normpath("/" + decoded.lstrip("/")))


def _parse_object(bucket: str, path: str, *, has_suffix: bool) -> ParsedUrl:
    """Keys are taken apart at slashes, though S3 would not: a segment that some client folds away is refused."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _literal_address(bucket) is not None:
        raise UnsafeUrlError("its bucket is not a valid name; write s3://bucket/key")
    decoded = _decode_path(path, "an s3 URL", has_suffix=has_suffix)
    *folders, name = decoded.split("/")[1:] or [""]
    if not (folders or name):
        raise UnsafeUrlError("it names no object; write s3://bucket/key")
    if any(part in ("", ".", "..") for part in folders) or name in (".", ".."):
        raise UnsafeUrlError("its key holds an empty, . or .. segment")
    if len(decoded.encode()) > _MAX_KEY_BYTES + 1:
        raise UnsafeUrlError(f"its key is longer than {_MAX_KEY_BYTES} bytes")
    return ParsedUrl("s3", bucket, None, quote(decoded))


def _decode_path(path: str, kind: str, *, has_suffix: bool) -> str:
    """A path whose escapes stand for its characters, and which nothing follows."""
    if has_suffix:
        raise UnsafeUrlError(f"{kind} has no query and no fragment; write ? as %3F and # as %23")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsafeUrlError("its path is not UTF-8") from error
    if any(not character.isprintable() for character in decoded):
        raise UnsafeUrlError("its path holds a control character")
    return decoded


def _parse_upload(text: str) -> ParsedUrl:
    file_id = file_id_of(text)
    if file_id is None or not is_id(file_id, PREFIX):
        raise UnsafeUrlError(f"it is not {URI_PREFIX} and the id that POST /files answered")
    return ParsedUrl("fyre", "files", None, f"/{file_id}")


def _parse_authority(authority: str) -> tuple[str, int | None]:
    """Host and port; every spelling of an address but the canonical one is refused."""
    if not authority:
        raise UnsafeUrlError("it has no host")
    if "@" in authority:
        raise UnsafeUrlError("it holds a user name or password; remove everything before the @")
    if not authority.isascii():
        raise UnsafeUrlError("its host is not ASCII; write an international name in its xn-- form")
    if (match := _AUTHORITY.fullmatch(authority)) is None:
        raise UnsafeUrlError("its host or port is not valid")
    port = int(match[2]) if match[2] else None
    if port is not None and port > 65535:
        raise UnsafeUrlError("its port is above 65535")
    return _canonical_host(match[1].lower()), port


def _canonical_host(host: str) -> str:
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1]).compressed
        except AddressValueError as error:
            raise UnsafeUrlError("its host is not a valid IPv6 address") from error
    labels = host.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):  # resolvers read 127.1, 2130706433 and 0x7f.1 as addresses
        if _literal_address(host) is None:
            raise UnsafeUrlError("its host is not an IPv4 address of four decimal numbers")
        return host
    if len(host) > _MAX_HOST_CHARS or not all(map(_LABEL.fullmatch, labels)):
        raise UnsafeUrlError("its host is not a valid name")
    return host


def _literal_address(host: str) -> IpAddress | None:
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return None
