"""The configuration that is delivered, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fyretoolkit.settings import PROJECT_ROOT, AutoscalingSettings, EgressSettings, PlatformConfig

DELIVERED = yaml.safe_load((PROJECT_ROOT / "configs" / "platform.yaml").read_text("utf-8"))


def test_the_delivered_file_shows_the_defaults() -> None:
    """As it says at its top: a key left out keeps the value shown there. Local files alone are open to all."""
    roots = {"development_file_roots": (Path("/"),)}
    expected = PlatformConfig(egress=EgressSettings().model_copy(update=roots))
    assert PlatformConfig.model_validate(DELIVERED) == expected
    for section, shown in DELIVERED.items():
        if section != "regions":
            assert shown.keys() == type(getattr(expected, section)).model_fields.keys(), section


@pytest.mark.parametrize(
    "values",
    [
        {"target_wait_s": 0},
        {"target_utilization": 0},
        {"target_utilization": 1.01},
        {"window_s": 0},
        {"report_interval_s": 0},
        {"report_interval_s": 4},
        {"upscale_delay_s": -1},
        {"downscale_to_zero_delay_s": None},
        {"down_delay_s": 1},
    ],
)
def test_autoscaling_that_cannot_be(values: dict[str, Any]) -> None:
    """Named, at the start of the platform; at Serve it would be an error in its control loop."""
    with pytest.raises(ValidationError):
        AutoscalingSettings(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"artifacts": {"url": "https://example.com/"}},
        {"artifacts": {"url": "/artifacts"}},
        {"artifacts": {"url": "file://host/artifacts"}},
        {"artifacts": {"url": "s3://"}},
        {"artifacts": {"url": "s3://bucket//prefix"}},
        {"artifacts": {"url": "s3://key:secret@bucket/prefix"}},
        {"egress": {"s3": {"roots": ["s3://bucket"]}}},
        {"egress": {"s3": {"roots": ["*"]}}},
        {"egress": {"s3": {"roots": [""]}}},
        {"egress": {"s3": {"endpoint": "minio:9000"}}},
        {"egress": {"s3": {"endpoint": "http://key:secret@minio:9000"}}},
        {"egress": {"s3": {"access_key": "x"}}},
    ],
)
def test_object_storage_that_cannot_be(values: dict[str, Any]) -> None:
    """A root that nobody can be beneath, a secret in a setting: named at the start."""
    with pytest.raises(ValidationError):
        PlatformConfig.model_validate(values)
