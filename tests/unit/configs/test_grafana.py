"""The dashboard and the alerts as files: well-formed, of names that exist, asking nobody else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.core.exposition import SERIES
from tests.support.promql import (
    ALERTS,
    DASHBOARD,
    GRAFANA,
    Asked,
    Selector,
    Shown,
    alert_expressions,
    dashboard_expressions,
    parse_samples,
    selectors,
)

ASKED = [*dashboard_expressions(), *alert_expressions()]


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text("utf-8"))


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up", [Selector("up", ())]),
        ("sum by (a, b) (rate(x_total[5m])) > 0.5", [Selector("x_total", ())]),
        (
            'sum without (le) (x{a="1",b=~"2|3"}) / on (a) group_left y{c!="}"}',
            [
                Selector("x", (("a", "=", "1"), ("b", "=~", "2|3"))),
                Selector("y", (("c", "!=", "}"),)),
            ],
        ),
        ("max (x) == 0 and absent(y)", [Selector("x", ()), Selector("y", ())]),
    ],
)
def test_selectors_are_found(expr: str, found: list[Selector]) -> None:
    """Functions, label lists and words of the language are none."""
    assert selectors(expr) == found


def test_a_selector_matches_as_prometheus_does() -> None:
    """Whole values; a label that is not there is empty."""
    (sample,) = parse_samples('# TYPE x gauge\nx{a="10",b="q\\"}"} 3.0\n')
    assert sample == Shown("x", {"a": "10", "b": 'q\\"}'}, 3.0)
    (narrow,) = selectors('x{a=~"1"}')
    (wide,) = selectors('x{a=~"1.",c="",d!="1"}')
    assert not narrow.matches(sample)
    assert wide.matches(sample)


def test_an_alert_is_measured_without_its_threshold() -> None:
    asked = Asked("", "max (a) > 0.5 or absent(a)", is_alert=True)
    assert asked.measured == ["max (a)"]


@pytest.mark.parametrize("asked", ASKED, ids=[asked.where for asked in ASKED])
def test_our_names_and_codes_exist(asked: Asked) -> None:
    """A name that was changed in the code is changed here, too; so with labels and codes."""
    found = selectors(asked.expr)
    assert found
    for selector in found:
        if not selector.name.startswith("ray_fyre_"):
            continue
        series = SERIES[selector.name.removeprefix("ray_")]
        assert {label for label, _, _ in selector.matchers} <= set(series.labels)
        codes = {
            code for label, _, value in selector.matchers if label == "code" for code in value.split("|")
        }
        assert codes <= {*CATALOGUE, "ok", "canceled"}


@pytest.mark.parametrize("name", sorted(SERIES))
def test_everything_that_is_shown_is_on_the_dashboard(name: str) -> None:
    """Nothing is exported that nobody looks at."""
    assert any(
        selector.name == f"ray_{name}"
        for asked in dashboard_expressions()
        for selector in selectors(asked.expr)
    )


def test_panels_have_their_own_places() -> None:
    """None covers another, and every id is one panel's."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below
        assert one["x"] + one["w"] <= 24


def test_nothing_leads_to_anybody_else() -> None:
    """No address but this machine's, no plugin that Grafana would have to fetch."""
    texts = [
        path.read_text("utf-8") for path in GRAFANA.rglob("*") if path.suffix in (".json", ".yml", ".ini")
    ]
    addresses = {address for text in texts for address in re.findall(r"\w+://([\w.-]+)", text)}
    assert addresses <= {"127.0.0.1"}
    kinds = {panel["type"] for panel in dashboard()["panels"]}
    assert kinds <= {"row", "timeseries", "stat", "heatmap"}


def test_every_alert_says_what_to_do() -> None:
    """A summary for a pager, and a sentence that goes on from there."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


BAD_AND_GOOD = {
    "FyrePredictionsFail": (
        {'ray_fyre_predictions_total{model="m",deployment="d",code="internal_error",status="500"}': "0+2x60",
         'ray_fyre_predictions_total{model="m",deployment="d",code="ok",status="200"}': "0+98x60"},
        {'ray_fyre_predictions_total{model="m",deployment="d",code="overloaded",status="503"}': "0+2x60",
         'ray_fyre_predictions_total{model="m",deployment="d",code="ok",status="200"}': "0+98x60"},
    ),
    "FyrePredictionsSlow": (
        {'ray_fyre_prediction_latency_ms_bucket{model="m",deployment="d",le="1000"}': "0+9x60",
         'ray_fyre_prediction_latency_ms_bucket{model="m",deployment="d",le="2000"}': "0+10x60",
         'ray_fyre_prediction_latency_ms_bucket{model="m",deployment="d",le="+Inf"}': "0+10x60"},
        {'ray_fyre_prediction_latency_ms_bucket{model="m",deployment="d",le="1000"}': "0+10x60",
         'ray_fyre_prediction_latency_ms_bucket{model="m",deployment="d",le="2000"}': "0+10x60",
         'ray_fyre_prediction_latency_ms_bucket{model="m",deployment="d",le="+Inf"}': "0+10x60"},
    ),
    "FyrePredictionsRefused": (
        {'ray_fyre_predictions_total{model="m",deployment="d",code="overloaded",status="503"}': "0+1x60",
         'ray_fyre_predictions_total{model="m",deployment="d",code="ok",status="200"}': "0+9x60"},
        {'ray_fyre_predictions_total{model="m",deployment="d",code="overloaded",status="503"}': "0+1x60",
         'ray_fyre_predictions_total{model="m",deployment="d",code="ok",status="200"}': "0+99x60"},
    ),
    "FyrePredictionsWithoutRedis": (
        {'ray_fyre_predictions_without_redis_total{WorkerId="w"}': "0+1x60"},
        {'ray_fyre_predictions_without_redis_total{WorkerId="w"}': "7x60"},
    ),
    "FyreNoReadyReplica": (
        {'ray_fyre_deployment_replicas{model="m",deployment="d",state="ready"}': "0x60",
         'ray_fyre_deployment_replicas{model="m",deployment="d",state="desired"}': "1x60"},
        {'ray_fyre_deployment_replicas{model="m",deployment="d",state="ready"}': "0x60",
         'ray_fyre_deployment_replicas{model="m",deployment="d",state="desired"}': "0x60"},
    ),
    "FyreProvisioningStuck": (
        {"ray_fyre_provisioning_age_seconds": "0+60x60"},
        {"ray_fyre_provisioning_age_seconds": "800x60"},
    ),
    "FyreControllerStalled": ({}, {"ray_fyre_controller_silence_seconds": "1x60"}),
    "FyreRedisAway": (
        {'ray_fyre_ingress_redis_up{WorkerId="a"}': "1x60", 'ray_fyre_ingress_redis_up{WorkerId="b"}': "0x60"},
        {'ray_fyre_ingress_redis_up{WorkerId="a"}': "1x60"},
    ),
    "FyreIngressGone": ({}, {"ray_fyre_ingress_redis_up": "0x60"}),
    "FyreExporterDown": ({'up{job="ray",instance="i"}': "0x60"}, {'up{job="ray",instance="i"}': "1x60"}),
    "FyreDiskFull": (
        {'ray_node_disk_utilization_percentage{ip="i"}': "91x60"},
        {'ray_node_disk_utilization_percentage{ip="i"}': "90x60"},
    ),
    "FyreMemoryFull": (
        {'ray_node_mem_used{ip="i"}': "91x60", 'ray_node_mem_total{ip="i"}': "100x60"},
        {'ray_node_mem_used{ip="i"}': "90x60", 'ray_node_mem_total{ip="i"}': "100x60"},
    ),
}  # fmt: skip
"""For each alert series that make it fire within half an hour, a sample a minute, and some that do not."""


def test_every_alert_is_tried() -> None:
    assert sorted(BAD_AND_GOOD) == sorted(asked.where for asked in alert_expressions())


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="install Debian's prometheus to run it, as .ci/run does"
)
@pytest.mark.parametrize("alert", sorted(BAD_AND_GOOD))
def test_an_alert_fires_when_it_should_and_then_alone(alert: str, tmp_path: Path) -> None:
    """By Prometheus's own evaluation of the rules."""
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": "30m",
                    "exp_samples": [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for series, expected in zip(BAD_AND_GOOD[alert], (1, 0), strict=True)
    ]
    path = tmp_path / "tests.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="install Debian's prometheus to run it, as .ci/run does"
)
def test_prometheus_takes_the_configuration() -> None:
    """The rules, and the file that names them."""
    for kind, name in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        done = subprocess.run(
            ["promtool", "check", kind, GRAFANA / name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
