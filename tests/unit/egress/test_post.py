"""A POST to an address that a caller gave: what receivers do to it, and where it never goes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.post import Answer, NotPostedError, post
from fyretoolkit.egress.transfer import Timeouts
from fyretoolkit.egress.urls import Policy, Purpose, policy_from
from fyretoolkit.settings import Settings
from tests.support.receivers import receiving
from tests.support.sentences import sentence
from tests.unit.egress.conftest import Trap

pytestmark = pytest.mark.anyio

TIMEOUTS = Timeouts(connect_s=5, read_s=5, total_s=30)
SHORT = Timeouts(connect_s=5, read_s=5, total_s=1)
HEADERS = {"Content-Type": "application/json", "webhook-id": "msg_1"}


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
def policy(settings: Settings) -> Policy:
    """Of webhooks in development: loopback is allowed where it is named."""
    return policy_from(settings, Purpose.WEBHOOK)


async def test_it_arrives_as_it_was_sent(policy: Policy) -> None:
    """Query, headers, bytes; nothing that a proxy variable says."""
    with receiving("ok") as receivers:
        url = f"{receivers.urls['ok']}?a=1&b=%2F"
        assert await post(url, "ü".encode(), HEADERS, policy=policy, timeouts=TIMEOUTS) == Answer(204, None)
    (received,) = receivers.received
    assert (received.target, received.body) == ("/hook?a=1&b=%2F", "ü".encode())
    assert received.headers["host"] == url.split("/")[2]
    assert received.headers["webhook-id"] == "msg_1"
    assert received.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("flaky", Answer(500, None)),
        ("redirect", Answer(302, None)),
        ("huge", Answer(200, None)),
        ("gone", Answer(410, None)),
        ("busy", Answer(429, "1")),
        ("trickle", Answer(200, None)),
    ],
)
async def test_the_status_is_what_counts(policy: Policy, kind: str, answer: Answer) -> None:
    """Whatever body comes with it, or does not come; a redirect is an answer like any other."""
    with receiving(kind) as receivers:
        assert await post(receivers.urls[kind], b"{}", HEADERS, policy=policy, timeouts=TIMEOUTS) == answer
    assert len(receivers.received) == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("hang", "did not answer within 1 s"),
        ("drip", "did not answer within 1 s"),
        ("reset", "broke the"),
    ],
)
async def test_no_answer_is_a_failure_in_words(policy: Policy, kind: str, words: str) -> None:
    """One that comes a byte at a time ends with the whole attempt, though no read waited for long."""
    with receiving(kind) as receivers:
        timeouts = TIMEOUTS if kind == "reset" else SHORT
        with pytest.raises(NotPostedError, match=words):
            await post(receivers.urls[kind], b"{}", HEADERS, policy=policy, timeouts=timeouts)
    assert len(receivers.received) == 1


async def test_a_closed_port_and_an_unknown_name_are_failures(policy: Policy, trap: Trap) -> None:
    port = trap.port
    trap.close()
    with pytest.raises(NotPostedError, match="refused the connection"):
        await post(f"http://127.0.0.1:{port}/", b"{}", HEADERS, policy=policy, timeouts=TIMEOUTS)

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(NotPostedError, match="cannot be resolved"):
        await post("https://a.example/", b"{}", HEADERS, policy=policy, timeouts=TIMEOUTS, resolve=unknown)


@sentence("webhooks-12")
@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["93.184.216.34", "10.0.0.1"],
        ["::1"],
        ["64:ff9b::a9fe:a9fe"],
        ["::ffff:127.0.0.1"],
        ["100.100.100.200"],
    ],
)
@pytest.mark.parametrize("mode", ["development", "production"])
async def test_a_name_that_leads_inside_is_never_connected_to(
    settings: Settings, trap: Trap, answers: list[str], mode: str
) -> None:
    """Rebinding: what it led to when the job was created says nothing; one bad address refuses all."""
    policy = policy_from(settings.model_copy(update={"mode": mode}), Purpose.WEBHOOK)

    async def rebound(host: str, port: int) -> Sequence[str]:
        return answers

    with pytest.raises(PlatformError) as refused:
        await post("https://a.example/x", b"{}", HEADERS, policy=policy, timeouts=TIMEOUTS, resolve=rebound)
    assert refused.value.code == "url_not_allowed"
    assert trap.is_untouched()


@sentence("webhooks-12")
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://good.example\\@127.0.0.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://127.0.0.1:{port}\t/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
    ],
)
async def test_a_hostile_url_is_never_connected_to(settings: Settings, trap: Trap, url: str) -> None:
    """Checked at every attempt, also one that got into a record some other way."""
    policy = policy_from(settings.model_copy(update={"mode": "production"}), Purpose.WEBHOOK)
    with pytest.raises(PlatformError) as refused:
        await post(url.format(port=trap.port), b"{}", HEADERS, policy=policy, timeouts=TIMEOUTS)
    assert refused.value.code == "url_not_allowed"
    assert trap.is_untouched()


async def test_proxies_of_the_environment_are_not_asked(
    policy: Policy, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
    with receiving("ok") as receivers:
        await post(receivers.urls["ok"], b"{}", HEADERS, policy=policy, timeouts=TIMEOUTS)
    assert len(receivers.received) == 1
    assert trap.is_untouched()
