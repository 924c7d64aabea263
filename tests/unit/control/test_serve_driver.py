"""What is read off Serve's own details of an application. No cluster: they are built and dumped by Serve's code."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import ray
from ray import serve
from ray._private import state
from ray.core.generated import gcs_pb2
from ray.serve import schema
from ray.serve._private.common import DeploymentStatus as ServeStatus
from ray.serve._private.common import DeploymentStatusTrigger
from ray.serve._private.config import DeploymentConfig

from fyretoolkit.control import nodes as nodes_module
from fyretoolkit.control import serve_details, serve_driver
from fyretoolkit.control.nodes import Nodes
from fyretoolkit.control.serve_details import ApplicationDetails
from fyretoolkit.control.serve_driver import SERVE_DEPLOYMENT, _actor_options, _application, ask_of
from fyretoolkit.core.capacity import LEAST_SHARE, Ask, Holding, Shortage
from fyretoolkit.core.deployments import Application, ApplicationState, Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import ModelSpec, resolve
from fyretoolkit.settings import Settings

NAME = "dep_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def answer(
    replicas: list[dict[str, Any]], *, options: dict[str, Any] | None = None, **config: Any
) -> dict[str, Any]:
    """What Serve's controller answers of an application with these replicas: its models, dumped without the unset."""
    replica_config = SimpleNamespace(ray_actor_options=options or {}, max_replicas_per_node=None)
    info: Any = SimpleNamespace(deployment_config=DeploymentConfig(**config), replica_config=replica_config)
    deployment = schema.DeploymentDetails(
        name=SERVE_DEPLOYMENT,
        status=ServeStatus.UPDATING,
        status_trigger=DeploymentStatusTrigger.CONFIG_UPDATE_STARTED,
        message="Traceback\n  of little use\nValueError: bad weights",
        deployment_config=schema._deployment_info_to_schema(SERVE_DEPLOYMENT, info),
        target_num_replicas=3,
        required_resources={},
        replicas=[
            schema.ReplicaDetails(replica_id=str(n), start_time_s=1, **each)
            for n, each in enumerate(replicas)
        ],
    )
    application = schema.ApplicationDetails(
        name=NAME,
        route_prefix=None,
        docs_path=None,
        status=schema.ApplicationStatus.DEPLOYING,
        message="",
        last_deployed_time_s=1,
        deployments={SERVE_DEPLOYMENT: deployment},
        source=schema.APIType.IMPERATIVE,
        external_scaler_enabled=False,
    )
    instance = schema.ServeInstanceDetails(
        controller_info=schema.ServeActorDetails(), proxies={}, applications={NAME: application}
    )
    return instance._get_user_facing_json_serializable_dict(exclude_unset=True)


def details(replicas: list[dict[str, Any]], **config: Any) -> ApplicationDetails:
    """Of that answer, the application."""
    found: ApplicationDetails = answer(replicas, **config)["applications"][NAME]
    return found


def test_a_look_builds_none_of_serves_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building them pickles a router's class for each application: a tenth of an idle core, at a look a second."""
    told = answer([{"state": "RUNNING", "node_id": "n"}], num_replicas=1, options={"num_cpus": 0.1})
    told["applications"]["somebody else's"] = told["applications"][NAME]
    client = SimpleNamespace(get_serve_details=lambda: pickle.loads(pickle.dumps(told)))
    monkeypatch.setattr(serve_details, "_get_global_client", lambda: client)
    monkeypatch.setattr(schema.BaseModel, "__init__", None)
    (found,) = serve_driver.observe()
    assert (found.name, found.replica_range, found.ask) == (NAME, (1, 1), Ask({"CPU": 0.1}, {}))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"num_replicas": 2}, (2, 2)),
        ({"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}}, (1, 4)),
        ({"num_replicas": None}, None),
    ],
)
def test_what_an_application_is_configured_for(
    config: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    """A fixed number was taken for bounds: what Serve puts where nothing was configured is true in Python."""
    found = _application(NAME, details([{"state": "RUNNING", "node_id": "n"}], **config), Nodes())
    assert found == Application(
        NAME,
        ApplicationState.STARTING,
        1,
        "ValueError: bad weights",
        expected,
        target_replicas=3,
        ask=Ask({}, {}),
    )


def a_deployment(**fields: Any) -> Deployment:
    """One that is to be started."""
    return Deployment(
        id=NAME, org="org_a", status=DeploymentStatus.PROVISIONING, stage=Stage.STARTING, model="m",
        model_uri="models://m", region="us-east-1", created=1, updated=1, stage_at=1.0, artifact="a" * 64,
        **fields,
    )  # fmt: skip


def a_spec() -> ModelSpec:
    """Of two numbers."""
    tensor = TensorSpec("x", "float32", (None, 2))
    return resolve(None, Signature((tensor,), (tensor,)))


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DeploymentConfig]:
    """What Serve is told of a deployment with these fields; `running` is what it is configured for by now."""
    targets: list[Any] = []
    monkeypatch.setattr(serve, "run_many", lambda found, **_: targets.extend(found))

    def apply(running: dict[str, Any] | None = None, **fields: Any) -> DeploymentConfig:
        settings = Settings.model_validate(
            {"home": "unused", "redis_url": "redis://unused", "limits": fields.pop("limits", {})}
        )
        deployment = a_deployment(**fields)
        known = {} if running is None else {NAME: details([], **running)}
        monkeypatch.setattr(serve_details, "applications", lambda: known)
        serve_driver.apply(deployment, a_spec(), settings)
        (target,) = targets
        config: DeploymentConfig = target.target._bound_deployment._deployment_config
        return config

    return apply


@pytest.mark.parametrize("longest_ms", [60_000, 300_000])
def test_a_replica_that_ends_has_time_for_what_it_was_asked(
    longest_ms: int, applied: Callable[..., DeploymentConfig]
) -> None:
    """Serve kills it after that, and who deletes a deployment is promised that requests in flight finish."""
    config = applied(limits={"max_timeout_ms": longest_ms})
    assert config.graceful_shutdown_timeout_s > longest_ms / 1000


@pytest.mark.parametrize(("fields", "initial"), [({"replicas": 3}, 3), ({"target_replicas": 4}, 4), ({}, 2)])
def test_where_autoscaling_starts(
    fields: dict[str, int], initial: int, applied: Callable[..., DeploymentConfig]
) -> None:
    """At what was asked for, or at what is there; Serve would begin with the fewest."""
    config = applied(autoscaling={"min_replicas": 2, "max_replicas": 5}, **fields).autoscaling_config
    assert config is not None
    assert (config.min_replicas, config.initial_replicas, config.max_replicas) == (2, initial, 5)


def test_who_may_sleep_starts_with_one_all_the_same(applied: Callable[..., DeploymentConfig]) -> None:
    """There is something to warm up, also where it slept before its application was lost."""
    config = applied(autoscaling={"min_replicas": 0, "max_replicas": 5}, target_replicas=0).autoscaling_config
    assert config is not None
    assert (config.min_replicas, config.initial_replicas) == (0, 1)


@pytest.mark.parametrize(
    ("running", "bounds"),
    [
        (None, None),
        ({"num_replicas": 1}, None),
        ({"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}}, (3, 3, 3)),
    ],
)
def test_a_fixed_number_after_bounds_is_bounds(
    running: dict[str, Any] | None,
    bounds: tuple[int, int, int] | None,
    applied: Callable[..., DeploymentConfig],
) -> None:
    """A replica whose bounds are taken away logs an error every second and grows; nothing but the number changes."""
    config = applied(running, replicas=3)
    if bounds is None:
        assert (config.num_replicas, config.autoscaling_config) == (3, None)
        return
    found = config.autoscaling_config
    assert found is not None
    assert (found.min_replicas, found.initial_replicas, found.max_replicas) == bounds


@pytest.mark.parametrize(
    ("fields", "regions", "expected"),
    [
        ({}, {}, {"num_gpus": 0.0}),
        ({"num_gpus": 0.5}, {}, {"num_gpus": 0.5}),
        ({"num_gpus": 0.5, "accelerator_type": "A100"}, {}, {"num_gpus": 0.5, "accelerator_type": "A100"}),
        (
            {},
            {"region": "us", "zone": "!c"},
            {"num_gpus": 0.0, "label_selector": {"region": "us", "zone": "!c"}},
        ),
    ],
)
def test_what_a_replica_asks_of_a_node(
    fields: dict[str, Any], regions: dict[str, str], expected: dict[str, Any]
) -> None:
    """As Ray takes it."""
    deployment = a_deployment(**fields)
    settings = Settings.model_validate(
        {"home": "unused", "redis_url": "redis://unused", "regions": {deployment.region: regions}}
    )
    assert _actor_options(ask_of(deployment, a_spec(), settings)) == {"num_cpus": 0.1, **expected}


@pytest.mark.parametrize("name", ["num_cpus", "num_gpus"])
def test_the_least_share_is_rays(name: str) -> None:
    """What it refuses has to be refused before: it would be tried until the time for loading is over."""
    replica = serve.deployment(type("Replica", (), {}))
    replica.options(ray_actor_options={name: LEAST_SHARE})
    with pytest.raises(ValueError, match=name):
        replica.options(ray_actor_options={name: LEAST_SHARE * 0.9})


@pytest.mark.parametrize(
    ("replicas", "running", "is_placed"),
    [
        ([], 0, False),
        ([{"state": "STARTING"}], 0, False),
        ([{"state": "STARTING", "node_id": "n"}], 0, True),
        ([{"state": "RUNNING", "node_id": "n"}, {"state": "STARTING"}], 1, True),
        ([{"state": "UPDATING", "node_id": "n"}, {"state": "STOPPING", "node_id": "n"}], 1, True),
    ],
)
def test_which_replicas_are_up_and_whether_there_was_room(
    replicas: list[dict[str, Any]], running: int, is_placed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes new bounds is up; one that has no node yet waits for capacity."""
    monkeypatch.setattr(Nodes, "_nodes", ())
    monkeypatch.setattr(Nodes, "_actors", ())
    found = _application(NAME, details(replicas, num_replicas=2), Nodes())
    assert (found.running_replicas, found.is_placed) == (running, is_placed)


REPLICA, OTHER = {"CPU": 0.1}, {"CPU": 0.5, "memory": 1.0}


@pytest.mark.parametrize(
    ("free", "actors", "is_short"),
    [
        (0.05, [(OTHER, 7), (OTHER, 8), ({"CPU": 0.95}, 9), (REPLICA, 0)], True),
        (0.05, [(OTHER, 7), (OTHER, 8), ({"CPU": 0.85}, 9), (REPLICA, 6)], False),
        (0.05, [(OTHER, 7), (OTHER, 8), ({"CPU": 0.85}, 9), (REPLICA, 0)], False),
        (0.05, [(OTHER, 7), (OTHER, 8), (REPLICA, 0)], False),
        (0.1, [(OTHER, 7), (OTHER, 8), ({"CPU": 0.9}, 9), (REPLICA, 0)], False),
    ],
)
def test_a_replica_that_waits_for_room_is_told_from_one_that_starts(
    free: float, actors: list[tuple[dict[str, float], int]], is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have no node by Serve's details, and a node by Ray's, the one that was asked last.

    What is starting has been given what it asked for, by a node of 2 CPUs here: less may be free.
    """
    table = [a_record(f"r{n}", *actor) for n, actor in enumerate(reversed(actors))]
    monkeypatch.setattr(nodes_module, "_actors", lambda: table)
    monkeypatch.setattr(
        ray, "nodes", lambda: [a_node(NODE, "eu", {"CPU": 2.0}), a_node(DEAD, "eu", {}, False)]
    )
    monkeypatch.setattr(state, "available_resources_per_node", lambda: {NODE: {"CPU": free}})
    options = {"num_cpus": 0.1, "num_gpus": 0, "label_selector": {"region": "eu"}}
    waiting = [{"state": "STARTING", "actor_name": "r0"}]
    found = _application(NAME, details(waiting, num_replicas=1, options=options), Nodes())
    expected = Shortage(Ask({"CPU": 0.1}, {"region": "eu"}), {"CPU": 0.05})
    assert found.shortage == (expected if is_short else None)


def test_a_region_whose_node_is_gone_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head, which Ray asked, is in another one, and busy with starting something."""
    monkeypatch.setattr(nodes_module, "_actors", list)
    monkeypatch.setattr(
        ray, "nodes", lambda: [a_node(NODE, "us", {"CPU": 2.0}), a_node(DEAD, "eu", {}, False)]
    )
    monkeypatch.setattr(state, "available_resources_per_node", lambda: {NODE: {"CPU": 1.0}})
    options = {"num_cpus": 0.1, "num_gpus": 0, "label_selector": {"region": "eu"}}
    waiting = details([{"state": "STARTING"}], num_replicas=1, options=options)
    assert _application(NAME, waiting, Nodes()).shortage == Shortage(
        Ask({"CPU": 0.1}, {"region": "eu"}), None
    )


def test_what_replicas_have_of_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By device: what is free of each GPU, and what leaves with an application. Actors of others count as well."""
    table = [
        a_record(f"SERVE_REPLICA::{NAME}#{SERVE_DEPLOYMENT}#x", {"CPU": 0.5, "GPU": 0.6}, 7, {0: 0.6}),
        a_record("other", {"GPU": 0.6}, 8, {1: 0.6}),
        a_record("starting", {"GPU": 0.6}, 0),
    ]
    monkeypatch.setattr(nodes_module, "_actors", lambda: table)
    monkeypatch.setattr(ray, "nodes", lambda: [a_node(NODE, "eu", {"CPU": 2.0, "GPU": 2.0})])
    free = {"CPU": 1.5, "GPU": 0.8}
    monkeypatch.setattr(state, "available_resources_per_node", lambda: {NODE: free})
    (found,) = serve_driver.known_nodes()
    assert (found.free, found.gpus) == (free, [0.4, 0.4])
    assert found.held == {NAME: [Holding({"CPU": 0.5, "GPU": 0.6}, {0: 0.6})]}


def test_a_share_that_no_gpu_has_is_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of 0.6 are there: Ray keeps a third waiting for ever, though 0.8 is free in all."""
    table = [
        a_record("r0", {"GPU": 0.6}, 0),
        a_record("r1", {"GPU": 0.6}, 7, {0: 0.6}),
        a_record("r2", {"GPU": 0.6}, 8, {1: 0.6}),
    ]
    monkeypatch.setattr(nodes_module, "_actors", lambda: table)
    monkeypatch.setattr(ray, "nodes", lambda: [a_node(NODE, "eu", {"GPU": 2.0})])
    monkeypatch.setattr(state, "available_resources_per_node", lambda: {NODE: {"GPU": 0.8}})
    waiting = [{"state": "STARTING", "actor_name": "r0"}]
    options = {"num_cpus": 0, "num_gpus": 0.6}
    found = _application(NAME, details(waiting, num_replicas=1, options=options), Nodes())
    assert found.shortage == Shortage(Ask({"GPU": 0.6}, {}), {"GPU": 0.4}, is_scattered=True)


NODE, DEAD = "aa" * 28, "bb" * 28


def a_node(name: str, region: str, resources: dict[str, float], is_alive: bool = True) -> dict[str, Any]:
    """As `ray.nodes()` has it."""
    return {"NodeID": name, "Alive": is_alive, "Labels": {"region": region}, "Resources": resources}


def a_record(
    name: str, resources: dict[str, float], pid: int, gpus: Mapping[int, float] = MappingProxyType({})
) -> gcs_pb2.ActorTableData:
    """An actor on the node, with these shares of its GPUs; without a pid it has no process."""
    record = gcs_pb2.ActorTableData(name=name, pid=pid, required_resources=resources)
    record.state = gcs_pb2.ActorTableData.ALIVE if pid else gcs_pb2.ActorTableData.PENDING_CREATION
    record.address.node_id = bytes.fromhex(NODE)
    if gpus:
        entry = record.resource_mapping.add(name="GPU")
        for index, quantity in gpus.items():
            entry.resource_ids.add(index=index, quantity=quantity)
    return record
