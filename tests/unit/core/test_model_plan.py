"""What the controller decides about models that were given a source. No clock, no Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import GiveUpModel, Model, PrepareModel, plan_preparations

GIVEN = Model(
    "m", "org_a", ModelStatus.TRAINING, 1, "mdl_1", source_uri="https://a.example/m.onnx", published_at=100
)


def test_a_source_is_prepared_until_its_time_is_up() -> None:
    """At the bound still, after it no more; the message says how long it had."""
    assert plan_preparations([GIVEN], 130, bound_s=30) == [PrepareModel(GIVEN)]
    (command,) = plan_preparations([GIVEN], 130.1, bound_s=30)
    assert command == GiveUpModel(GIVEN, "Fetching and inspecting the source took over 30 s.")


@pytest.mark.parametrize(
    "settled",
    [
        replace(GIVEN, source_uri=None),
        replace(GIVEN, error={"code": "invalid_onnx", "message": "Cut short."}),
        replace(GIVEN, status=ModelStatus.READY),
        replace(GIVEN, status=ModelStatus.ARCHIVED),
    ],
)
def test_nothing_is_done_for_the_others(settled: Model) -> None:
    """In training without a source, failed, ready, archived."""
    assert plan_preparations([settled], 101, bound_s=30) == []
