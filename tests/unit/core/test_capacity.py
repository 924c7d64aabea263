"""Whether a node has room, and what is said when none has."""

from __future__ import annotations

import pytest

from fyretoolkit.core.capacity import Ask, Node, find_shortage, matches

HALF_A_GPU = Ask({"CPU": 0.1, "GPU": 0.5}, {})


def node(cpus: float, gpus: float = 0.0, **labels: str) -> Node:
    return Node(labels, {"CPU": cpus, "GPU": gpus})


@pytest.mark.parametrize(
    ("nodes", "has_room"),
    [
        ([node(1, 1)], True),
        ([node(1, 0), node(1, 0.5)], True),
        ([node(1, 0.4999)], False),
        ([node(0, 1), node(1, 0)], False),
        ([node(0.1 - 1e-9, 0.5)], True),
        ([], False),
    ],
)
def test_one_node_must_hold_all_of_it(nodes: list[Node], has_room: bool) -> None:
    """A CPU here and a GPU there are of no use. What is lost in adding up shares of a CPU is no shortage."""
    assert (find_shortage(HALF_A_GPU, nodes) is None) is has_room


def test_what_was_asked_for_and_what_is_free() -> None:
    """Of the node that comes nearest: one with a GPU and no CPU is not it."""
    shortage = find_shortage(Ask({"CPU": 0.1, "GPU": 1.0}, {}), [node(0, 0.25), node(2, 0.5), node(1, 0)])
    assert shortage is not None
    assert shortage.describe() == (
        "A replica asks for 0.1 CPU and 1 GPU. The node with the most room has 2 CPU and 0.5 GPU free."
    )
    assert shortage.details() == {
        "asked": {"CPU": 0.1, "GPU": 1.0},
        "labels": {},
        "free": {"CPU": 2, "GPU": 0.5},
    }


def test_a_region_without_a_node_is_named() -> None:
    """Asking for less would not help there."""
    shortage = find_shortage(Ask({"CPU": 0.1}, {"region": "eu"}), [node(8, region="us"), node(8)])
    assert shortage is not None
    assert (
        shortage.describe() == "A replica asks for 0.1 CPU on a node with region=eu. There is no such node."
    )
    assert shortage.details()["free"] is None


def test_an_accelerator_is_named_as_one() -> None:
    """Ray counts its kinds as resources of a thousandth."""
    ask = Ask({"GPU": 1.0, "accelerator_type:A100": 0.001}, {})
    shortage = find_shortage(ask, [Node({}, {"GPU": 2.0, "accelerator_type:T4": 1.0})])
    assert shortage is not None
    assert shortage.describe() == (
        "A replica asks for 1 GPU and an accelerator A100. "
        "The node with the most room has 2 GPU and no accelerator A100 free."
    )


@pytest.mark.parametrize(
    ("wanted", "is_met"),
    [
        ("eu", True), ("us", False), ("!eu", False), ("!us", True), ("in(us, eu)", True), ("in(us,asia)", False),
        ("!in(us,asia)", True), ("!in(eu)", False),
    ],
)  # fmt: skip
def test_selectors_are_read_as_ray_reads_them(wanted: str, is_met: bool) -> None:
    """Every form that Ray's label selectors have."""
    assert matches({"region": "eu"}, {"region": wanted}) is is_met


@pytest.mark.parametrize(
    ("wanted", "is_met"), [("eu", False), ("in(eu)", False), ("!eu", True), ("!in(eu)", True)]
)
def test_a_node_without_the_label(wanted: str, is_met: bool) -> None:
    """It has no value, so it has none of those wanted, and none of those unwanted."""
    assert matches({}, {"region": wanted}) is is_met
