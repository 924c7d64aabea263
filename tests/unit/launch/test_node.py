"""What the environment says of this machine's node, and what an operator is told of its regions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fyretoolkit.launch import preflight
from fyretoolkit.launch.children import ray_head_arguments
from fyretoolkit.launch.environment import Copy, platform_environment
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.node import Node, node_from, region_lines
from fyretoolkit.launch.paths import Home, runtime_dir
from fyretoolkit.launch.ports import PortBlock


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy that does not run."""
    return Copy(
        home=Home(tmp_path), runtime_dir=runtime_dir(tmp_path), run_id="run", host="127.0.0.1", port=8000,
        mode="development", has_demo=True, ports=PortBlock(20_480), redis_url="unix:///s",
    )  # fmt: skip


def test_the_head_has_its_labels_and_the_gpus_of_a_test(copy: Copy) -> None:
    """Without them Ray finds the GPUs, and the node has no label but Ray's own."""
    node = node_from({"FYRE_NODE_LABELS": "region=us-east-1, zone=a", "FYRE_TEST_GPUS": "2"})
    assert node == Node({"region": "us-east-1", "zone": "a"}, 2)
    arguments = ray_head_arguments(replace(copy, node=node))
    assert {"--labels=region=us-east-1,zone=a", "--num-gpus=2"} <= set(arguments)
    plain = " ".join(ray_head_arguments(replace(copy, node=node_from({"FYRE_TEST_GPUS": ""}))))
    assert "--labels" not in plain
    assert "--num-gpus" not in plain


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"FYRE_NODE_LABELS": "us-east-1"}, "FYRE_NODE_LABELS: 'us-east-1' is no label"),
        ({"FYRE_TEST_GPUS": "two"}, "FYRE_TEST_GPUS: a number from 0 to 64, not 'two'"),
        ({"FYRE_TEST_GPUS": "-1"}, "FYRE_TEST_GPUS"),
        ({"FYRE_TEST_GPUS": "65"}, "FYRE_TEST_GPUS"),
        ({"FYRE_TEST_PROVIDERS": "cuda"}, "a double of CUDAExecutionProvider, none of 'cuda'"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_starts(environ: dict[str, str], says: str) -> None:
    """Naming the variable."""
    with pytest.raises(LaunchError, match=says) as caught:
        node_from(environ)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["FYRE_TEST_GPUS", "FYRE_TEST_PROVIDERS"])
def test_production_has_no_gpus_that_nobody_has(name: str) -> None:
    """Nor a provider that is none."""
    with pytest.raises(LaunchError, match=f"{name}: for tests in development mode alone"):
        preflight.check_no_test_switch({name: "2"})


def test_a_developers_switch_does_not_show_every_replica_all_gpus(copy: Copy) -> None:
    """Ray would leave CUDA_VISIBLE_DEVICES alone, in those that hold none too."""
    environment = platform_environment({"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}, copy)
    assert "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES" not in environment
    assert environment["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] == "1"


def test_a_region_without_a_node_here_says_what_it_needs() -> None:
    """The delivered configuration serves all of them on any machine."""
    regions = {
        "us-east-1": {},
        "eu-west-1": {"region": "eu-west-1", "zone": "!c"},
        "eu-west-2": {"region": "eu"},
    }
    assert region_lines(regions, {"region": "eu"}) == [
        "us-east-1, eu-west-2: on this machine",
        "eu-west-1: needs a node with region=eu-west-1, zone=!c",
    ]
    assert region_lines({"eu": {"region": "eu"}}, {}) == [
        "none on this machine",
        "eu: needs a node with region=eu",
    ]


def test_a_selector_that_cannot_be_read_is_refused_with_its_place(tmp_path: Path) -> None:
    """The file, the region, and how it is written."""
    path = tmp_path / "platform.yaml"
    path.write_text("regions: {eu-west-1: {region: 'in('}}", "utf-8")
    with pytest.raises(
        LaunchError, match=r"platform.yaml: regions.eu-west-1: region: 'in\(' is no condition"
    ):
        preflight.check_settings({"FYRE_CONFIG": str(path)})
