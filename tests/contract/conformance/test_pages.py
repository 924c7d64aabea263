"""Pagination: every list alike, at any depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench
from tests.support.conformance import (
    REGION,
    Caller,
    Organization,
    Remember,
    error_of,
    fields_of,
    new_organization,
)
from tests.support.sentences import sentence

COUNT = 5
READING = ("cmdstat_z", "cmdstat_hgetall", "cmdstat_hmget")
"""What a page is read with; other commands are those of the replica's own watching."""
LISTS = ["/models", "/deployments", "/jobs", "/files", "/api_keys", "/organizations", "/nodes"]
OWN = [
    path for path in LISTS if path not in ("/organizations", "/nodes")
]  # those hold what no test here makes

Lists = dict[str, list[str]]


def made(caller: Caller, path: str, number: int) -> str:
    """The id of a new object of a list, one that costs the platform little."""
    if path == "/models":
        return str(caller.made(path, {"id": f"m-{number}", "status": "training"})["id"])
    if path == "/deployments":
        body = {"model_uri": f"file:///not-here/{number}.onnx", "region": REGION}
        return str(caller.made(path, body)["id"])
    if path == "/jobs":
        job = caller.made("/batch/digits", {"input_url": f"file:///not-here/{number}.csv"})
        caller.post(f"/jobs/{job['id']}/cancel")
        return str(job["id"])
    if path == "/files":
        return caller.upload(b"x", f"{number}.txt").rpartition("/")[2]
    return str(caller.made(path, {"name": f"k{number}"})["id"])


@pytest.fixture(scope="module")
def shelf(operator: Caller, remember: Remember) -> tuple[Caller, Lists]:
    """An organization with five objects in each list, and their ids, newest first. Read it only."""

    def make() -> dict[str, Any]:
        new = new_organization(operator)
        ids = {path: [made(new.caller, path, number) for number in range(COUNT)][::-1] for path in OWN}
        return {"key": new.key["key"], "ids": ids}

    known = remember("shelf", make)
    return operator.with_key(known["key"]), known["ids"]


def page(caller: Caller, path: str, **params: Any) -> tuple[list[str], bool]:
    """(ids, has_more) of one page."""
    found = caller.read(path, params=params)
    assert found.keys() == {"object", "data", "has_more"}
    assert found["object"] == "list"
    assert isinstance(found["has_more"], bool)
    return [each["id"] for each in found["data"]], found["has_more"]


def caller_of(path: str, caller: Caller, operator: Caller) -> Caller:
    """Whoever may read the list."""
    return operator if path == "/organizations" else caller


@sentence("pages-1", "pages-5")
@pytest.mark.parametrize("path", LISTS)
def test_limit_is_1_to_100(caller: Caller, operator: Caller, path: str) -> None:
    """Both ends are allowed, what lies outside or is no number is not."""
    reader = caller_of(path, caller, operator)
    for limit in ("1", "100"):
        assert len(page(reader, path, limit=limit)[0]) <= int(limit)
    for limit in ("0", "101", "-1", "abc", "", "5.0", "1e1"):
        assert fields_of(reader.get(path, params={"limit": limit})) == ["limit"]


@sentence("pages-2")
def test_20_by_default(fresh: Organization) -> None:
    """Of 21 objects."""
    for _ in range(21):
        fresh.caller.upload(b"x", "x.txt")
    ids, has_more = page(fresh.caller, "/files")
    assert (len(ids), has_more) == (20, True)


@sentence("pages-3", "pages-4")
@pytest.mark.parametrize("path", OWN)
def test_newest_first_and_behind_the_cursor(shelf: tuple[Caller, Lists], path: str) -> None:
    """The page after an object begins with the next older one."""
    caller, lists = shelf
    ids = lists[path]
    assert page(caller, path, limit=COUNT)[0] == ids
    assert page(caller, path, limit=2)[0] == ids[:2]
    assert page(caller, path, limit=2, starting_after=ids[1])[0] == ids[2:4]


@sentence("pages-4")
def test_organizations_newest_first(operator: Caller) -> None:
    """The one just made is the first."""
    names = [new_organization(operator).id for _ in range(2)]
    assert page(operator, "/organizations", limit=2)[0] == names[::-1]
    assert page(operator, "/organizations", limit=1, starting_after=names[1])[0] == names[:1]


@sentence("pages-6")
@pytest.mark.parametrize("path", ["/jobs", "/deployments", "/files"])
def test_has_more_is_exact(shelf: tuple[Caller, Lists], path: str) -> None:
    """True with one object left, false with none, though the page is full."""
    caller, lists = shelf
    assert page(caller, path, limit=COUNT - 1)[1] is True
    assert page(caller, path, limit=COUNT)[1] is False
    assert page(caller, path, limit=2, starting_after=lists[path][2]) == (lists[path][3:], False)
    assert page(caller, path, limit=2, starting_after=lists[path][-1]) == ([], False)


@sentence("pages-7", "pages-6")
@pytest.mark.parametrize("path", LISTS)
def test_page_by_page_each_object_once(shelf: tuple[Caller, Lists], operator: Caller, path: str) -> None:
    """Whatever the page's size; the last page alone has no more."""
    caller = caller_of(path, shelf[0], operator)
    seen: list[str] = []
    limit, has_more = (2 if path in OWN else 100), True
    while has_more:
        cursor = {"starting_after": seen[-1]} if seen else {}
        ids, has_more = page(caller, path, limit=limit, **cursor)
        assert len(ids) == limit or not has_more
        assert not set(ids) & set(seen)
        seen += ids
    assert len(seen) == len(set(seen))  # within a page too
    own = shelf[1].get(path, [])
    assert [each for each in seen if each in own] == own


@sentence("pages-8")
@pytest.mark.parametrize("path", ["/files", "/deployments", "/api_keys"])
def test_a_deleted_object_still_positions(fresh: Organization, path: str) -> None:
    """Its neighbours come behind it as before."""
    ids = [made(fresh.caller, path, number) for number in range(3)][::-1]
    assert fresh.caller.delete(f"{path}/{ids[1]}").status_code == 200
    assert page(fresh.caller, path, limit=1, starting_after=ids[1])[0] == ids[2:]


@sentence("pages-9")
@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_of_another_list(caller: Caller, operator: Caller, path: str) -> None:
    """Not an id at all, an id of something else, an id with another letter in it."""
    for cursor in ("nonsense", "pred_01ARZ3NDEKTSV4RRFFQ69G5FAV", "dep_01ARZ3NDEKTSV4RRFFQ69G5FAu", ""):
        reader = caller_of(path, caller, operator)
        error_of(reader.get(path, params={"starting_after": cursor}), 400, "invalid_cursor")


@sentence("pages-9")
def test_a_foreign_model_is_no_cursor(org: Organization, other: Organization) -> None:
    """It would tell that it is there."""
    name = f"cursor-{org.id[-6:].lower()}"
    org.caller.post("/models", {"id": name, "status": "training"})
    assert org.caller.get("/models", params={"starting_after": name}).status_code == 200
    error_of(other.caller.get("/models", params={"starting_after": name}), 400, "invalid_cursor")


@sentence("pages-10")
def test_an_archived_model_still_positions(fresh: Organization) -> None:
    """It stays in the list and keeps its place."""
    ids = [made(fresh.caller, "/models", number) for number in range(3)][::-1]
    assert fresh.caller.post(f"/models/{ids[1]}/archive").status_code == 200
    assert page(fresh.caller, "/models", limit=3)[0] == ids
    assert page(fresh.caller, "/models", limit=1, starting_after=ids[1])[0] == ids[2:]
    assert fresh.caller.delete(f"/models/{ids[1]}").status_code == 405


@sentence("pages-11")
@pytest.mark.parametrize("path", LISTS)
def test_an_unknown_query_parameter(caller: Caller, operator: Caller, path: str) -> None:
    """A typo is never ignored."""
    reader = caller_of(path, caller, operator)
    assert fields_of(reader.get(path, params={"limt": "5"})) == ["limt"]


@sentence("pages-11")
def test_an_unknown_query_parameter_of_metrics(caller: Caller, deployment: dict[str, Any]) -> None:
    """There too."""
    answer = caller.get(f"/metrics/{deployment['id']}", params={"perod": "1h"})
    assert fields_of(answer) == ["perod"]


@sentence("pages-12")
@pytest.mark.anyio
async def test_depth_costs_nothing(bench: Bench) -> None:
    """Redis is asked the same for the first page of 20 jobs as for a page far down of 400."""

    async def add(count: int) -> list[str]:
        names = [new_id("job") for _ in range(count)]
        for name in names:
            await bench.services.jobs.create(a_job(name))
        return names

    async def calls(path: str) -> dict[str, int]:
        await bench.request("GET", "/jobs?limit=1")  # reads the key, which is remembered for a moment
        await bench.services.store.redis.config_resetstat()
        assert len((await bench.request("GET", path)).json()["data"]) == 5
        stats: dict[str, dict[str, int]] = await bench.services.store.redis.info("commandstats")
        return {name: each["calls"] for name, each in stats.items() if name.startswith(READING)}

    await add(20)
    first = await calls("/jobs?limit=5")
    names = await add(380)
    assert await calls("/jobs?limit=5") == first
    assert await calls(f"/jobs?limit=5&starting_after={names[10]}") == first


def a_job(name: str) -> BatchJob:
    """The record of a queued job."""
    return BatchJob(
        id=name,
        org=DEMO_ORG,
        status=JobStatus.QUEUED,
        model="digits",
        artifact="a" * 64,
        spec={},
        input_url="https://a.example/a.csv",
        created=1,
    )


NewOrg = Callable[..., Organization]


@sentence("pages-5")
@pytest.mark.parametrize("path", OWN)
def test_an_empty_list(new_org: NewOrg, path: str) -> None:
    """An organization that owns nothing: public models and its first key are all there is."""
    ids, has_more = page(new_org().caller, path)
    assert has_more is False
    assert path in ("/models", "/api_keys") or ids == []
