"""Hostile URLs: what a caller may try so that the platform touches an address, a file or a service that it should not.

`is_told` says that the text alone gives it away: such a URL is refused when it is sent. The others look innocent, and
what they lead to is seen when they are used: their names belong to the world of the trial (`world.NAMES`), and the
redirects are answers of a server in it that may be fetched from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

PUBLIC = "files.public.example"
"""A name that leads to a public address, where a server answers with valid certificates."""


@dataclass(frozen=True, slots=True)
class HostileUrl:
    """One way to try."""

    kind: str
    url: str
    is_told: bool


NUMBERS = (
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0", "0x0", "0251.0376.0251.0376",
    "2852039166", "0xa9fea9fe", "127.0.0.01", "127.0.0.1.", "256.0.0.1", "①②⑦.⓪.⓪.①", "１２７.０.０.１", "127。0。0。1",
)  # fmt: skip
ADDRESSES_V4 = (
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",  # noqa: S104 - to be refused
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255",
)  # fmt: skip
ADDRESSES_V6 = (
    "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::", "2001::1", "fe80::1",
    "fe80::1%25lo", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
)  # fmt: skip
LOCAL_NAMES = ("localhost", "LOCALHOST", "a.localhost", "localhost.", "localhost:6379")
MISREAD = (
    f"https://{PUBLIC}@127.0.0.1/", "https://user:password@127.0.0.1/", f"https://127.0.0.1:443@{PUBLIC}/",
    f"https://{PUBLIC}\\@127.0.0.1/", f"https:\\\\127.0.0.1\\{PUBLIC}", f"https://127.0.0.1\t.{PUBLIC}/",
    f"https://127.0.0.1\n.{PUBLIC}/", f"https://{PUBLIC}/\r\nHost: 127.0.0.1", f"https://{PUBLIC}\x00.127.0.0.1/",
    f" https://{PUBLIC}/", f"https://{PUBLIC}%40127.0.0.1/", "https://%31%32%37.0.0.1/", f"https://{PUBLIC};127.0.0.1/",
    f"https://[{PUBLIC}]/", "https:///127.0.0.1/", "https:127.0.0.1",
)  # fmt: skip
PORTS = tuple(f"https://{PUBLIC}:{port}/" for port in (22, 25, 6379, 8080, 8265, 0, 65536, "443a", "-443"))
SCHEMES = (
    f"http://{PUBLIC}/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "file://127.0.0.1/etc/passwd",
    "ftp://127.0.0.1/", "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:6379/info", "ldap://127.0.0.1/",
    "s3://somebody-elses/key.jsonl", "jar:https://127.0.0.1!/", "unix:///var/run/docker.sock", "ws://127.0.0.1/",
)  # fmt: skip
RESOLVED = (
    "loopback", "loopback-v6", "metadata", "private", "shared", "azure", "unspecified", "multicast", "mapped", "nat64",
    "six-to-four", "unique-local", "one-of-two", "one-of-six", "one-of-each-family", "alias", "private-then-public",
)  # fmt: skip
"""Each is a name of its own, `<this>.hostile.example`."""
REDIRECTS = (
    "https://127.0.0.1/", "http://127.0.0.1/", "https://[::1]/", "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/", "//127.0.0.1/", "https://metadata.hostile.example/", "file:///etc/passwd",
    f"http://{PUBLIC}/", f"https://{PUBLIC}:6379/", f"https://{PUBLIC}@127.0.0.1/",
)  # fmt: skip
"""Where a server that may be fetched from sends us; the number of one is its path, `/to/<number>`."""
LATER = (
    f"https://{PUBLIC}/twice/0",  # over another of its own addresses
    "https://public-once.hostile.example/here",  # redirects to itself, and resolves anew
    "https://public-at-first.hostile.example/breaks",  # ends in the middle, so that it is asked for again
)


def catalogue() -> Iterator[HostileUrl]:
    """All of them."""
    told = {
        "an address in disguise": (f"https://{each}/" for each in NUMBERS),
        "an address that is not public": chain(
            (f"https://{each}/" for each in ADDRESSES_V4), (f"https://[{each}]/" for each in ADDRESSES_V6)
        ),
        "a local name": (f"https://{each}/" for each in LOCAL_NAMES),
        "a URL that is read in two ways": MISREAD,
        "a port": PORTS,
        "a scheme": SCHEMES,
    }
    later = {
        "a name that leads elsewhere": (f"https://{each}.hostile.example/" for each in RESOLVED),
        "a redirect": (f"https://{PUBLIC}/to/{number}" for number in range(len(REDIRECTS))),
        "a change of mind": LATER,
    }
    for is_told, kinds in ((True, told), (False, later)):
        for kind, urls in kinds.items():
            yield from (HostileUrl(kind, url, is_told) for url in urls)
