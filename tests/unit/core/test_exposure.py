"""Keys never travel in clear, and the demo key is never reachable from elsewhere."""

from __future__ import annotations

import pytest

from fyretoolkit.core.exposure import check_exposure, is_loopback, parse_host, parse_public_url


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("10.0.0.7", "10.0.0.7"),
        ("::", "::"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
    ],
)
def test_a_host_is_an_address_in_one_spelling(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text", ["", "*", "api.example.com", "127.1", "10.0.0.0/8", "fe80::1%eth0", " 0.0.0.0"]
)
def test_what_is_no_address_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address: .* 0\.0\.0\.0 for all of them, or 127\.0\.0\.1"):
        parse_host(text)


@pytest.mark.parametrize(("host", "is_so"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::", False),
                                             ("0.0.0.0", False), ("10.0.0.1", False)])  # fmt: skip
def test_loopback_is_what_no_other_machine_reaches(host: str, is_so: bool) -> None:
    assert is_loopback(host) is is_so


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.Example.com/", "https://api.example.com"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
    ],
)
def test_a_public_url_is_a_scheme_and_a_host(text: str, url: str) -> None:
    assert parse_public_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "api.example.com",
        "ftp://api.example.com",
        "https://",
        "https://user@api.example.com",
        "https://user:password@api.example.com",
        "https://api.example.com/v1",
        "https://api.example.com?x=1",
        "https://api.example.com#x",
        "https://api.example.com:0",
        "https://api.example.com:65536",
        "https://api.example.com:",
        "https://-api.example.com",
        "https://api example.com",
        "https://api.example.com\\@evil.example",
        "https://api.example.com\n",
    ],
)
def test_anything_more_than_that_is_refused_with_an_example(text: str) -> None:
    """A path or a password in it would end up in every link."""
    with pytest.raises(ValueError, match=r"as in https://api\.example\.com"):
        parse_public_url(text)


@pytest.mark.parametrize(
    ("is_development", "host", "is_tls_terminated", "public_url"),
    [
        (True, "127.0.0.1", False, None),
        (True, "127.0.0.1", False, "http://models.test"),
        (True, "127.0.0.1", True, None),
        (False, "127.0.0.1", False, None),
        (False, "127.0.0.1", False, "https://api.example.com"),
        (False, "127.0.0.1", False, "http://localhost:8000"),
        (False, "127.0.0.1", False, "http://[::1]:8000"),
        (False, "0.0.0.0", True, None),
        (False, "0.0.0.0", True, "https://api.example.com"),
        (False, "::", True, "https://api.example.com"),
    ],
)
def test_what_keeps_keys_private_passes(
    is_development: bool, host: str, is_tls_terminated: bool, public_url: str | None
) -> None:
    check_exposure(
        is_development=is_development, host=host, is_tls_terminated=is_tls_terminated, public_url=public_url
    )


@pytest.mark.parametrize(
    ("is_development", "host", "is_tls_terminated", "public_url", "way_out"),
    [
        (True, "0.0.0.0", False, None, "use --mode production"),
        (True, "10.0.0.1", True, "https://api.example.com", "use --mode production"),
        (False, "0.0.0.0", False, None, "--tls-terminated"),
        (False, "10.0.0.1", False, "https://api.example.com", "--tls-terminated"),
        (False, "0.0.0.0", True, "http://api.example.com", "begins with https://"),
        (False, "0.0.0.0", True, "http://localhost:8000", "begins with https://"),
        (False, "127.0.0.1", False, "http://api.example.com", "begins with https://"),
        (False, "127.0.0.1", False, "http://localhost.example.com", "begins with https://"),
    ],
)
def test_what_would_give_keys_away_is_refused_with_the_way_out(
    is_development: bool, host: str, is_tls_terminated: bool, public_url: str | None, way_out: str
) -> None:
    with pytest.raises(ValueError, match=way_out) as caught:
        check_exposure(
            is_development=is_development,
            host=host,
            is_tls_terminated=is_tls_terminated,
            public_url=public_url,
        )
    assert "\n" not in str(caught.value)
