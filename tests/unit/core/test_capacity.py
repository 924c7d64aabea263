"""Whether a node has room, and what is said when none has."""

from __future__ import annotations

import pytest

from fyretoolkit.core.capacity import Ask, Holding, Node, find_shortage, has_room, matches

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


@pytest.mark.parametrize(
    ("wanted", "gpus", "free"),
    [
        (0.6, (0.4, 0.4), 0.4),
        (0.4, (0.4, 0.4), None),
        (1.0, (0.5, 0.5), 0),
        (1.0, (1.0, 0.0), None),
        (2.0, (1.0, 0.7, 0.3), 1),
        (2.0, (1.0, 1.0 - 1e-9), None),
        (0.6, (), None),
        (0.6, (1.0, 1.0), None),
    ],
)
def test_a_share_is_of_one_gpu(wanted: float, gpus: tuple[float, ...], free: float | None) -> None:
    """As Ray gives them: of two with 0.4 free each nobody has 0.6, and 1 is a whole one. Unknown, the sum has to do."""
    shortage = find_shortage(Ask({"GPU": wanted}, {}), [Node({}, {"GPU": sum(gpus) or 0.8}, gpus)])
    assert (shortage and shortage.free) == (None if free is None else {"GPU": free})


def test_more_may_be_free_than_one_can_have() -> None:
    """Said, since who adds up what is free would not believe it otherwise; not where the sum is too small as well."""
    ask = Ask({"GPU": 0.6}, {})
    scattered, taken = (
        find_shortage(ask, [Node({}, {"GPU": sum(gpus)}, gpus)]) for gpus in [(0.4, 0.4), (0.4,)]
    )
    assert scattered is not None
    assert scattered.describe() == (
        "A replica asks for 0.6 GPU. The node with the most room has 0.4 GPU free. "
        "More of its GPUs is free, but in pieces that no one replica can have."
    )
    assert taken is not None
    assert taken.describe() == "A replica asks for 0.6 GPU. The node with the most room has 0.4 GPU free."


def test_what_is_not_known_of_devices_is_no_room() -> None:
    """Who has GPUs without saying which (tasks, what is just starting) has them all the same."""
    assert not has_room(Ask({"GPU": 0.5}, {}), Node({}, {"GPU": 0.25}, (1.0,)))


def test_who_goes_leaves_its_room() -> None:
    """On the GPU that it was on; others stay. A name that the node does not know changes nothing."""
    held = {
        "a": [Holding({"CPU": 1.0, "GPU": 0.5}, {1: 0.5})],
        "b": [Holding({"CPU": 2.0}), Holding({"CPU": 3.0})],
    }
    full = Node({"zone": "z"}, {"CPU": 0.5, "GPU": 0.5}, (0.25, 0.25), held)
    assert full.without(["a", "c"]) == Node(
        {"zone": "z"}, {"CPU": 1.5, "GPU": 1.0}, [0.25, 0.75], {"b": held["b"]}
    )
    assert full.without(["b"]).free == {"CPU": 5.5, "GPU": 0.5}


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
