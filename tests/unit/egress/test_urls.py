"""The parser and the policy: a table of hostile URLs, and a fuzz against other parsers as oracles."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.urls import (
    ParsedUrl,
    Policy,
    Purpose,
    UnsafeUrlError,
    check_parsed,
    check_url,
    join_url,
    parse_url,
    policy_from,
)
from fyretoolkit.settings import Settings

HOSTILE = [
    # no URL at all, or one without a host
    "", " ", "/", "//", "://", "https", "https:", "https:/", "https://", "https:///", "https:///etc/passwd",
    "https:example.com", "https:/example.com", "//example.com/", "https://:443/", "https://?q", "https://#f",
    # schemes
    "ftp://example.com/", "gopher://example.com/", "s3://bucket/key", "javascript:alert(1)", "data:text/csv,a",
    "ht\ttp://example.com/", "https ://example.com/", "1https://example.com/", "jar:https://example.com!/",
    # control characters, spaces, backslashes, broken escapes
    "https://example.com/\n", "\thttps://example.com/", " https://example.com/", "https://exam\tple.com/",
    "https://example.com/\r\nHost: evil", "https://example.com/\x00", "https://example.com\\@127.0.0.1/",
    "https:\\\\example.com\\", "https://example.com/a b", "https://example.com/\u2028", "https://example.com/\u200b",
    "https://example.com/\ud800", "https://example.com/%", "https://example.com/%zz", "https://example.com/%1",
    # user information and other readings of the authority
    "https://user@example.com/", "https://user:password@example.com/", "https://@example.com/",
    "https://example.com@127.0.0.1/", "https://127.0.0.1:443@example.com/", "https://example.com:443@127.0.0.1/",
    "https://example.com%40127.0.0.1/", "https://%31%32%37.0.0.1/", "https://example.com;127.0.0.1/",
    "https://example.com,127.0.0.1/", "https://[example.com]/", "https://[::1/", "https://::1/", "https://[::1]a/",
    "https://[v1.fe]/", "https://[fe80::1%25eth0]/", "https://[]/", "https://exa*mple.com/", "https://a..b/",
    "https://.example.com/", "https://example.com./", "https://-a.com/", "https://a-.com/",
    "https://" + "a" * 64 + ".com/", "https://" + "a." * 130 + "com/", "https://example.com/" + "a" * 9000,
    # ports
    "https://example.com:/", "https://example.com:0/", "https://example.com:00443/", "https://example.com:65536/",
    "https://example.com:99999999999/", "https://example.com:-1/", "https://example.com:+443/",
    "https://example.com:443a/", "https://example.com:４４３/", "https://example.com:22/", "https://example.com:6379/",
    # hosts that are not ASCII
    "https://①②⑦.⓪.⓪.①/", "https://１２７.０.０.１/", "https://127。0。0。1/", "https://ex\u00e4mple.com/",
    "https://example\u2024com/", "https://exam\u00adple.com/", "https://loc\u212alhost/", "https://\u2100.com/",
    # addresses in disguise
    "https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/",
    "https://0177.0.0.1/", "https://0/", "https://0251.0376.0251.0376/", "https://127.0.0.01/", "https://1.2.3.4.5/",
    "https://256.0.0.1/", "https://0x/", "https://a.0x7f/", "https://example.1/", "https://127.0.0.1./",
    # addresses that are not public
    "https://127.0.0.1/", "https://127.8.9.10/", "https://0.0.0.0/", "https://10.0.0.1/", "https://192.168.1.1/",
    "https://172.16.0.1/", "https://169.254.169.254/latest/meta-data/", "https://100.100.100.200/",
    "https://168.63.129.16/", "https://192.0.0.192/", "https://224.0.0.1/", "https://255.255.255.255/",
    "https://[::]/", "https://[::1]/", "https://[::127.0.0.1]/", "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/", "https://[::ffff:0:7f00:1]/", "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:a9fe:a9fe::]/", "https://[2001::1]/", "https://[fec0::1]/", "https://[fe80::1]/",
    "https://[fd00:ec2::254]/", "https://[ff02::1]/", "https://localhost/", "https://LOCALHOST/",
    "https://a.localhost/",
]  # fmt: skip
ONLY_IN_DEVELOPMENT = {
    "https://127.0.0.1/", "https://127.8.9.10/", "https://[::1]/", "https://localhost/", "https://LOCALHOST/",
    "https://a.localhost/",
}  # fmt: skip


def is_allowed(text: str, policy: Policy) -> bool:
    """Whether `check_url` does anything but refuse the text."""
    try:
        check_url(text, policy)
    except PlatformError as error:
        return error.code != "url_not_allowed"
    return True


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_url_is_refused(text: str, production: Policy, development: Policy) -> None:
    """Nothing of the table passes in production; in development only plain spellings of loopback do."""
    assert not is_allowed(text, production)
    assert is_allowed(text, development) is (text in ONLY_IN_DEVELOPMENT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com", ParsedUrl("https", "example.com", 443, "/")),
        ("HTTPS://Example.COM:80/A?b=C#d", ParsedUrl("https", "example.com", 80, "/A", "b=C")),
        ("https://xn--bcher-kva.example/", ParsedUrl("https", "xn--bcher-kva.example", 443, "/")),
        (
            "https://my_bucket.s3.example/%2e%2E/x",
            ParsedUrl("https", "my_bucket.s3.example", 443, "/%2e%2E/x"),
        ),
        ("https://example.com/ä?ß", ParsedUrl("https", "example.com", 443, "/%C3%A4", "%C3%9F")),
        ("https://example.com?next=//a@b", ParsedUrl("https", "example.com", 443, "/", "next=//a@b")),
        ("https://8.8.8.8/", ParsedUrl("https", "8.8.8.8", 443, "/")),
        ("https://[2606:4700:0::1111]/", ParsedUrl("https", "2606:4700::1111", 443, "/")),
        ("https://0x7f.example/", ParsedUrl("https", "0x7f.example", 443, "/")),
    ],
)
def test_plain_public_url_is_allowed(text: str, expected: ParsedUrl, production: Policy) -> None:
    """Ordinary URLs pass and come apart as RFC 3986 says; the fragment stays with the caller."""
    assert check_url(text, production) == expected


def test_production_takes_neither_http_nor_files(production: Policy, root: Path) -> None:
    """Production is https to public hosts, and uploads; the message says so."""
    assert not is_allowed("http://example.com/", production)
    allowed = (
        r"Allowed: a public host with https:// on port 80 or 443; an uploaded file with fyre://files/<id>\.$"
    )
    with pytest.raises(PlatformError, match=allowed):
        check_url(f"file://{root}/a.csv", production)


def test_development_takes_loopback_on_any_port(development: Policy) -> None:
    """A server beside the platform is the usual source in development; public hosts keep their ports."""
    for host in ("localhost", "127.0.0.1", "[::1]", "files.localhost"):
        assert is_allowed(f"http://{host}:54321/x", development)
    assert is_allowed("http://example.com/x", development)
    assert not is_allowed("http://example.com:54321/x", development)
    assert not is_allowed("http://localhost.example.com:54321/x", development)
    assert not is_allowed("http://0.0.0.0:54321/x", development)


def test_a_webhook_is_never_a_file_nor_redirected(settings: Settings, root: Path) -> None:
    """Webhooks share the guard, without files; a redirect of one is a failure (Standard Webhooks)."""
    policy = policy_from(settings, Purpose.WEBHOOK)
    assert is_allowed("http://localhost:9000/hook", policy)
    assert not is_allowed(f"file://{root}/hook", policy)
    assert policy.max_redirects == 0


@pytest.mark.parametrize(
    "suffix",
    ["/../x", "/a/../../x", "/%2e%2e/x", "/%2E./x", "/a%2F..%2f..%2Fx", "/a%00b", "/a%0Ab", "/a%FF", "/a?b", "/a#b",
     "/home/redis/appendonly.aof", "/home", "/./home/x", "//home/x"],
)  # fmt: skip
def test_hostile_file_path_is_refused(suffix: str, development: Policy, root: Path) -> None:
    """No way out of the root by text, escaped or not, and no way into the platform's own home."""
    assert not is_allowed(f"file://{root}{suffix}", development)


@pytest.mark.parametrize(
    "text",
    [
        "s3://", "s3:///", "s3:///key", "s3://bucket", "s3://bucket/", "s3:bucket/key", "s3:/bucket/key", "s3://b/key",
        "s3://Bucket/key", "s3://bucket_1/key", "s3://-bucket/key", "s3://bucket-/key", "s3://bu..cket/key",
        "s3://127.0.0.1/key", "s3://bucket:443/key", "s3://user@bucket/key", "s3://key:secret@bucket/key",
        "s3://bücket/key", "s3://buc%6Bet/key", "s3://" + "b" * 64 + "/key", "s3://bucket?key", "s3://bucket#key",
        "s3://bucket//key", "s3://bucket/a//key", "s3://bucket/./key", "s3://bucket/../other/key", "s3://bucket/a/..",
        "s3://bucket/a/.", "s3://bucket/%2e%2e/key", "s3://bucket/a%2F..%2Fkey", "s3://bucket/key?versionId=1",
        "s3://bucket/key#1", "s3://bucket/a b", "s3://bucket/a\\b", "s3://bucket/%00", "s3://bucket/%0A", "s3://bucket/%FF",
        "s3://bucket/%", "s3://bucket/" + "k" * 1025, "s3://bucket/" + "é" * 513,
    ],
)  # fmt: skip
def test_what_names_no_object_is_refused(text: str) -> None:
    """Buckets by their own rule; keys without what some client would fold away; nothing after them."""
    with pytest.raises(UnsafeUrlError):
        parse_url(text)


def test_an_object_is_its_bucket_and_its_key() -> None:
    """The longest key that there may be; a name with what its escapes stand for; a folder's slash."""
    longest = parse_url("s3://my-bucket.eu/" + "k" * 1024)
    assert (longest.host, longest.port, len(longest.object_path)) == ("my-bucket.eu", None, 12 + 1 + 1024)
    assert parse_url("S3://bucket/a/%3F%23.csv").object_path == "bucket/a/?#.csv"
    assert parse_url("s3://bucket/a/..b/").is_object_folder
    assert not parse_url("s3://bucket/a").is_object_folder


def test_file_url_is_decoded_once(development: Policy, root: Path) -> None:
    """Escapes name the characters of the path; a doubly escaped one keeps its inner escape."""
    assert check_url(f"file://{root}/a%20b%23.csv", development).path == f"{root}/a b#.csv"
    assert check_url(f"file://localhost{root}//x/./é.csv", development).path == f"{root}/x/é.csv"
    assert check_url(f"file://{root}/%252e%252e/x", development).path == f"{root}/%2e%2e/x"


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "file://example.com/etc/passwd",
        "file:///",
        "file://",
        "file:etc",
        "file:///etc/",
    ],
)
def test_file_outside_the_roots_is_refused(text: str, development: Policy) -> None:
    """Only the configured roots, and no host."""
    assert not is_allowed(text, development)


@pytest.mark.parametrize("path", ["/proc/self/environ", "/sys/kernel", "/dev/stdin", "/run/secrets/key"])
def test_system_folders_stay_closed_even_if_everything_is_a_root(path: str, settings: Settings) -> None:
    """With `/` as a root, as on a developer's machine, another process's environment is still not a file."""
    egress = settings.egress.model_copy(update={"development_file_roots": (Path("/"),)})
    policy = policy_from(settings.model_copy(update={"egress": egress}))
    assert is_allowed("file:///etc/hostname", policy)
    assert not is_allowed(f"file://{path}", policy)


def test_the_refusal_does_not_repeat_credentials(production: Policy) -> None:
    """Messages are shown and logged; what was between // and @, or after ?, is neither."""
    for text in (
        "https://user:hunter2@example.com/?hunter2",
        "https://example.com:22/?sig=hunter2",
        "x://hunter2",
    ):
        with pytest.raises(PlatformError) as caught:
            check_url(text, production)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "https://example.com/b"),
        ("b?c", "https://example.com/x/b"),
        ("?c", "https://example.com/x/y"),
        ("//other.example/b", "https://other.example/b"),
        ("https://other.example:80/b", "https://other.example:80/b"),
    ],
)
def test_redirect_is_joined_to_its_base(location: str, expected: str) -> None:
    """RFC 3986 §5.2 references, the query apart."""
    assert join_url(parse_url("https://example.com/x/y?z"), location).shown == expected


@pytest.mark.parametrize(
    ("start", "target"),
    [
        ("http://example.com/", "http://localhost/"),
        ("http://example.com/", "http://127.0.0.1:9000/"),
        ("https://example.com/", "http://example.com/"),
        ("http://localhost:9000/", "file:///{root}/a.csv"),
        ("http://localhost:9000/", "http://169.254.169.254/"),
    ],
)
def test_redirect_cannot_reach_further_than_its_origin(
    start: str, target: str, development: Policy, root: Path
) -> None:
    """A public server must not lead into loopback, from https to http, or anything into a file."""
    url = check_url(start, development)
    with pytest.raises(PlatformError):
        check_parsed(parse_url(target.format(root=str(root).lstrip("/"))), development.after(url))


HOSTS = st.one_of(
    st.sampled_from(
        [
            "example.com",
            "localhost",
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "[::1]",
            "[::ffff:a9fe:a9fe]",
            "8.8.8.8",
            "①.1",
        ]
    ),
    st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)),
    st.integers(min_value=0, max_value=2**33).map(str),
    st.lists(st.sampled_from(["0", "1", "127", "0x7f", "0177", "a", "255", "256"]), max_size=5).map(".".join),
    st.text(max_size=12),
)
SNIPPETS = st.one_of(
    HOSTS,
    st.sampled_from(["https://", "http://", "file://", "s3://", "//", "/", "\\", "@", ":", "?", "#", "%", "%40", "%2f",
                     ":443", ":80", ":0", ".", "..", "[", "]", "\t", "\n", " ", "。", "user:pw@", "xn--"]),
)  # fmt: skip
URLS = st.one_of(
    st.text(),
    st.lists(SNIPPETS, max_size=8).map("".join),
    st.builds("https://{}{}{}".format, HOSTS, st.sampled_from(["", ":443", ":80", ":8080", "@a"]), st.text()),
)
PRODUCTION = Policy(frozenset({"https"}), frozenset({80, 443}), 3)


def is_public_to_every_resolver(host: str) -> bool:
    """The oracle for addresses: what libc makes of the text is public, and is spelled in the one canonical way."""
    try:
        packed = socket.inet_aton(host)
    except OSError:
        if ":" not in host:
            return True
        inner = ip_address(host)
        return inner.is_global and not inner.is_multicast and int(inner) >> 125 == 1
    return str(IPv4Address(packed)) == host and IPv4Address(packed).is_global


@given(URLS)
@example("https://good.example\\@127.0.0.1/")
@example("https://2130706433/")
def test_whatever_is_allowed_means_the_same_to_other_parsers(text: str) -> None:
    """Never an exception but the refusal, and never a URL that urllib or httpx would send elsewhere."""
    try:
        url = check_url(text, PRODUCTION)
    except PlatformError:
        return
    split, other = urlsplit(text), httpx.URL(text)
    assert split.scheme == other.scheme == url.scheme == "https"
    assert (split.port or 443) == (other.port or 443) == url.port
    assert url.port in (80, 443)
    if ":" in url.host:
        assert ip_address(split.hostname or "") == ip_address(other.host) == ip_address(url.host)
    else:
        assert split.hostname == other.raw_host.decode() == url.host
    assert is_public_to_every_resolver(url.host)
    assert url.host.isascii()
    assert url.target.isascii()
    assert url.target.startswith("/")
    assert url.target.isprintable()


@given(URLS)
def test_a_redirect_joins_or_is_refused(location: str) -> None:
    """Whatever a server writes into Location, nothing but the refusal comes out of it."""
    try:
        url = join_url(parse_url("https://example.com/x/y?z"), location)
    except UnsafeUrlError:
        return
    assert parse_url(f"{url.scheme}://{url.authority}{url.target}" if url.host else url.shown) == url


@given(URLS.map(lambda text: "file://" + text.removeprefix("https://")))
def test_an_allowed_file_is_beneath_the_root_by_text(text: str) -> None:
    """The path of an allowed file URL is normal, absolute and beneath the root."""
    policy = Policy(frozenset({"file"}), frozenset(), 0, file_roots=(Path("/root"),))
    try:
        url = check_url(text, policy)
    except PlatformError:
        return
    assert url.path == "/root" or url.path.startswith("/root/")
    assert ".." not in url.path.split("/")


@given(URLS.map(lambda text: "s3://bucket/root/" + text.removeprefix("https://")))
@example("s3://bucket/root/../key")
@example("s3://bucket/root/%2e%2E/key")
@example("s3://bucket/root%2Fkey")
def test_an_allowed_object_is_beneath_the_root(text: str) -> None:
    """However its key is spelled, no client could take it for another; what is shown of it names it again."""
    policy = Policy(frozenset({"s3"}), frozenset(), 0, bucket_roots=("bucket/root",))
    try:
        url = check_url(text, policy)
    except PlatformError:
        return
    *folders, name = url.object_path.removeprefix("bucket/root/").split("/")
    assert url.object_path.startswith("bucket/root/")
    assert not {"", ".", ".."} & set(folders)
    assert name not in (".", "..")
    assert parse_url(url.shown) == url
