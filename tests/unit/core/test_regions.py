"""Labels and selectors, as Kubernetes and Ray write them."""

from __future__ import annotations

import pytest

from fyretoolkit.core.regions import check_selector, parse_labels, served_and_not

LABELS = {"region": "us-east-1", "zone": "a"}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("region=us-east-1", {"region": "us-east-1"}),
        (" region=us-east-1 , zone=a,", LABELS),
        ("ray.io/availability-region=eu", {"ray.io/availability-region": "eu"}),
    ],
)
def test_labels_are_pairs_between_commas(text: str, labels: dict[str, str]) -> None:
    """As `ray start --labels` takes them."""
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    "text", ["region", "region=", "=eu", "region=-eu", "re gion=eu", "region=a=b", "a/=b"]
)
def test_what_is_no_label_is_named(text: str) -> None:
    """Ray would end without a word of it in its first lines."""
    with pytest.raises(ValueError, match="is no label: write key=value"):
        parse_labels(text)


@pytest.mark.parametrize("condition", ["us-east-1", "!a", "in(a, b)", "in(a,b)", "!in(a.b, c_d)"])
def test_the_conditions_that_ray_reads_pass(condition: str) -> None:
    """Its documentation's."""
    check_selector({"region": condition, "ray.io/market-type": "spot"})


@pytest.mark.parametrize(
    "selector",
    [{"region": ""}, {"region": "in()"}, {"region": "!!eu"}, {"region": "in(a"}, {"re gion": "eu"}],
)
def test_a_selector_that_ray_would_not_read_is_refused(selector: dict[str, str]) -> None:
    """It would be an error in Serve's control loop at the first deployment."""
    with pytest.raises(ValueError, match=r"no condition|no label's name"):
        check_selector(selector)


def test_a_node_is_told_its_regions() -> None:
    """In the order of the configuration."""
    regions = {"any": {}, "eu": {"region": "eu-west-1"}, "us": {"region": "us-east-1"}}
    assert served_and_not(regions, LABELS) == (["any", "us"], ["eu"])
