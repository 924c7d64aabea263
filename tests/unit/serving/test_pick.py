"""The choice among the deployments of one model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.models.codec import Codec
from fyretoolkit.serving.routing import Route, pick

_ROUTE = Route("dep_a", "org_a", "m", "us-east-1", 100, "sha", cast(Codec, None), 64, 1)


def _route(name: str, *, traffic: int = 100, region: str = "us-east-1", is_degraded: bool = False) -> Route:
    return replace(_ROUTE, deployment=name, traffic=traffic, region=region, is_degraded=is_degraded)


def _name(routes: list[Route], draw: float, region: str | None = None) -> str | None:
    found = pick(routes, region, draw)
    return found.deployment if found else None


def test_traffic_is_shared_by_weight() -> None:
    routes = [_route("a", traffic=90), _route("b", traffic=10)]
    draws = [number / 1000 for number in range(1000)]
    assert Counter(_name(routes, draw) for draw in draws) == {"a": 900, "b": 100}


def test_a_weight_of_zero_takes_nothing() -> None:
    routes = [_route("a", traffic=0), _route("b", traffic=1)]
    assert {_name(routes, draw) for draw in (0.0, 0.5, 0.999999)} == {"b"}
    assert _name([_route("a", traffic=0)], 0.0) is None


def test_a_degraded_one_answers_only_when_it_is_alone() -> None:
    degraded = _route("a", is_degraded=True, region="eu-west-1")
    assert _name([degraded, _route("b", traffic=1)], 0.0, "eu-west-1") == "b"
    assert _name([degraded], 0.0) == "a"


def test_the_wished_region_comes_first_and_is_no_condition() -> None:
    routes = [_route("a"), _route("b", region="eu-west-1")]
    assert {_name(routes, draw, "eu-west-1") for draw in (0.0, 0.99)} == {"b"}
    assert _name(routes, 0.0, "us-west-2") == "a"


def test_nothing_comes_of_nothing() -> None:
    assert pick([], None, 0.5) is None


@given(
    st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=6),
    st.floats(0, 1, exclude_max=True),
)
def test_whoever_is_picked_takes_traffic(weights: list[tuple[int, bool]], draw: float) -> None:
    routes = [
        _route(str(number), traffic=weight, is_degraded=is_degraded)
        for number, (weight, is_degraded) in enumerate(weights)
    ]
    found = pick(routes, None, draw)
    takers = [route for route in routes if route.traffic > 0]
    assert (found is None) is (not takers)
    if found is not None:
        assert found.traffic > 0
        assert not found.is_degraded or all(route.is_degraded for route in takers)
