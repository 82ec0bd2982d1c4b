"""The map of a stage on a real Ray cluster of two nodes on this machine."""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.shards.execution import Execution
from pipeline.shards.read import read_table
from tests.squares import build

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
NODES = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster whose two nodes have one core each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(1, NODES):
            cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.fixture
def on_ray(cluster: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PARTGEN_RAY_ADDRESS", cluster)
    return cluster


def which_node(seconds: float) -> str:
    time.sleep(seconds)
    return str(ray.get_runtime_context().get_node_id())


def dies_once(mark: str) -> str:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_all_nodes_get_work(on_ray: str) -> None:
    tasks = [(f"n{index}", lambda: 1.0) for index in range(6)]
    outcomes = list(Execution.from_environment().map(which_node, tasks, timeout_s=60, tasks_per_worker=0))
    assert sorted(object_id for object_id, _, _ in outcomes) == [f"n{index}" for index in range(6)]
    assert [reason for _, _, reason in outcomes if reason] == []
    assert len({node for _, node, _ in outcomes}) == NODES


def test_shards_are_those_of_the_local_pool(
    on_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch_of_its_own: Path
) -> None:
    build(tmp_path / "ray", list(range(12)), tasks_per_worker=5)
    monkeypatch.delenv("PARTGEN_RAY_ADDRESS")
    monkeypatch.setenv("PARTGEN_SCRATCH", str(scratch_of_its_own / "local"))
    assert build(tmp_path / "pool", list(range(12))).computed == 12
    assert digests(tmp_path / "ray") == digests(tmp_path / "pool")


def test_a_bad_object_costs_itself_only(on_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[Any] = [1, "fails", "raises", 2, "dies", "hangs", 3]
    with pytest.raises(UserError, match="1 of 2 objects were not finished"):
        build(tmp_path / "out", [1, "dies"], share=1.0, timeout_s=10)
    monkeypatch.setenv("PARTGEN_ACCEPT_KILLED", "1")
    report = build(tmp_path / "out", values, share=1.0, timeout_s=10)
    rows = read_table(tmp_path / "out" / "failures").to_pylist()
    assert report.reused == 1
    assert {row["object_id"]: row["kind"] for row in rows} == {
        "nfails": "object", "nraises": "object", "ndies": "killed", "nhangs": "timeout"
    }  # fmt: skip
    reasons = {row["object_id"]: row["reason"] for row in rows}
    assert reasons["nfails"] == "it had to"
    assert "odd" in reasons["nraises"]
    assert "died" in reasons["ndies"]
    assert "10 s" in reasons["nhangs"]


def test_an_object_whose_worker_was_killed_is_tried_again(on_ray: str, tmp_path: Path) -> None:
    """Kills the worker of the first object, once."""
    tasks = [(f"n{index}", lambda: str(tmp_path / "seen")) for index in range(3)]
    outcomes = list(Execution.from_environment().map(dies_once, tasks, timeout_s=30, tasks_per_worker=0))
    assert sorted(outcomes) == [(f"n{index}", "done", None) for index in range(3)]


@pytest.mark.timeout(60)
def test_a_cluster_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGEN_RAY_ADDRESS", "127.0.0.1:1")
    tasks = [("n0", lambda: 0.0)]
    with pytest.raises(UserError, match=r"No Ray cluster answers at '127\.0\.0\.1:1'"):
        list(Execution.from_environment().map(which_node, tasks, timeout_s=5, tasks_per_worker=0))
