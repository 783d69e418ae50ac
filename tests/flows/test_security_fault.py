"""Nothing loaded is executed, nothing is written outside the root, no secret is told, nobody else can ask."""

import ast
import io
import logging
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from support.bare_job import configure, run_bare

from recapture.conf.errors import UserError
from recapture.datasets.media.video import write_video
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands import ui as dashboards
from recapture.flows.recapture_dataset import recapture
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.jobs.fill import FillStage

SECRET = "hunter2-6f1c9e52d7"
REPOSITORY = Path(__file__).resolve().parents[2]


class Bomb:
    """Leaves a mark when somebody unpickles it."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def bomb(tmp_path):
    """A pickle that leaves a mark; fails the test when the mark is there."""
    content = pickle.dumps(Bomb(tmp_path / "proof"))
    pickle.loads(content)
    assert (tmp_path / "proof").exists()  # it would work
    (tmp_path / "proof").rmdir()
    mark = tmp_path / "mark"
    yield Bomb(mark)
    assert not mark.exists()


def pickled_npz(bomb):
    buffer = io.BytesIO()
    np.savez(buffer, depth=np.array([bomb], dtype=object), w2c=np.array([bomb], dtype=object))
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["depth.npz", "cameras.npz"])
def test_a_pickle_beside_a_clip_is_refused_and_not_run(tmp_path, bomb, suffix):
    folder = tmp_path / "videos"
    folder.mkdir()
    frame = np.full((32, 32, 3), 99, np.uint8)
    write_video(str(folder / "a.mp4"), [frame] * 5, fps=Fraction(12))
    shutil.copy(folder / "a.mp4", folder / "b.mp4")
    np.savez(folder / "b.depth.npz", depth=np.full((5, 32, 32), 3.0, np.float32))
    np.savez(folder / "a.depth.npz", depth=np.full((5, 32, 32), 3.0, np.float32))
    (folder / f"a.{suffix}").write_bytes(pickled_npz(bomb))
    delivered = run_bare(configure(tmp_path, "--dataset.uri", str(folder)))["deliver"]
    assert {outcome.clip_id for outcome in delivered if outcome.usable} == {"b"}


def test_a_pickle_in_an_artifact_is_refused_and_not_run(tmp_path, bomb):
    store = ArtifactStore(str(tmp_path / "artifacts"))
    with store.create("depth", "a" * 32) as output:
        output.write_bytes("frames-00000.npz", pickled_npz(bomb))
    with pytest.raises(ArtifactError, match="cannot be read as npz without pickle"):
        store.open("depth", "a" * 32).read_npz("frames-00000.npz")


@pytest.mark.parametrize("setting", ["depth.model", "fill.base"])
def test_a_model_that_is_a_pickle_is_refused_and_not_run(tmp_path, bomb, setting):
    shipped = REPOSITORY / "weights" / {"depth.model": "depth", "fill.base": "base"}[setting]
    folder = tmp_path / "model"
    shutil.copytree(shipped, folder)
    for weights in folder.rglob("*.safetensors"):
        for name in ("pytorch_model.bin", "model.pt", "diffusion_pytorch_model.bin"):
            weights.with_name(name).write_bytes(pickle.dumps(bomb))
        weights.unlink()
    kind = {"depth.model": ("--depth.source", "auto"), "fill.base": ("--fill.method", "base")}[setting]
    config = configure(tmp_path, *kind, f"--{setting}", str(folder), count=1)
    refused = {
        "depth.model": (StageSick, "cannot work"),
        "fill.base": (UserError, "is a pickle, which is never opened"),
    }
    with pytest.raises(refused[setting][0], match=refused[setting][1]):
        run_bare(config)


def test_no_code_of_ours_can_unpickle():
    loaders = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
    found = []
    for floor in ("conf", "datasets", "models", "tasks", "flows"):
        for path in sorted((REPOSITORY / floor).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found += [(path.name, alias.name) for alias in node.names if alias.name in loaders]
                if isinstance(node, ast.ImportFrom) and node.module in loaders:
                    found.append((path.name, node.module))
                if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                    forbidden = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False}
                    if node.arg in forbidden and node.value.value is forbidden[node.arg]:
                        found.append((path.name, node.arg))
    assert found == []


OUTSIDE = ["..", "../x", "a/../../x", "/etc/x", "a/b", "", ".", "x\n", "a\\b"]


def test_no_key_stage_or_entry_leaves_the_root(tmp_path):
    root = tmp_path / "deep" / "artifacts"
    store = ArtifactStore(str(root))
    for stage, key in [pair for name in OUTSIDE for pair in ((name, "a" * 32), ("depth", name))]:
        for action in (store.create, store.open, store.delete, store.exists):
            with pytest.raises(ValueError, match="cannot be a"):
                action(stage, key)
        entry = Quarantined("a", "a", stage, key, "E", "e", "t", 1, "r")
        for action in (Quarantine(str(root), "set").add, Quarantine(str(root), "set").retry):
            with pytest.raises(ValueError, match="cannot be a"):
                action(entry)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_entry_that_names_another_file_is_left_out(tmp_path, caplog):
    quarantine = Quarantine(str(tmp_path), "set")
    victim = tmp_path / "quarantine/set/depth/victim.json"
    planted = tmp_path / "quarantine/set/depth/planted.json"
    planted.parent.mkdir(parents=True)
    entry = Quarantined("a", "a", "depth", "victim", "E", "e", "t", 1, "r")
    quarantine.add(entry)
    shutil.copy(victim, planted)
    planted.with_name("torn.json").write_text("{")
    assert quarantine.entries() == [entry]
    assert "planted.json" in caplog.text and "torn.json" in caplog.text


def everything_below(folder):
    """Return path -> all text of a folder's files: tables and databases in clear."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            yield path, str(pq.read_table(path).to_pylist())
        elif path.suffix == ".db":
            yield path, "\n".join(sqlite3.connect(path).iterdump())
        else:
            yield path, path.read_bytes().decode("latin-1")


@pytest.mark.integration
def test_no_credential_is_in_anything_that_a_run_writes_or_says(job, tmp_path, monkeypatch, caplog, capfd):
    uri = f"http://me:{SECRET}@127.0.0.1:9/a.mp4?X-Amz-Signature={SECRET}"
    frame = np.full((32, 32, 3), 99, np.uint8)
    write_video(str(tmp_path / "whole.mp4"), [frame] * 5, fps=Fraction(12))
    np.savez(tmp_path / "depth.npz", depth=np.full((5, 32, 32), 3.0, np.float32))
    rows = f"id,uri,depth_uri\nfar,{uri},\nwhole,{tmp_path}/whole.mp4,{tmp_path}/depth.npz\n"
    index = tmp_path.parent / f"{tmp_path.name}.csv"
    index.write_text(rows)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)

    def fail(self, item, inputs, output):
        raise RuntimeError(f"request to {uri} failed with key {os.environ['AWS_SECRET_ACCESS_KEY']}")

    monkeypatch.setattr(FillStage, "run", fail)
    with caplog.at_level(logging.DEBUG, logger="recapture"):
        summary = recapture(job("--dataset.uri", str(index), "--tracking.enabled", "true"))
    assert len(summary.failures) == 2
    assert {failure.item for failure in summary.failures} == {"far", "whole@orbit_right_10"}
    assert "***" in next(failure.error for failure in summary.failures if failure.item != "far")

    places = dict(everything_below(tmp_path))
    assert any("quarantine" in str(path) for path in places)
    assert any("mlflow.db" in str(path) for path in places)
    assert any("manifests" in str(path) for path in places)
    places |= {"log": caplog.text, "terminal": "".join(capfd.readouterr())}
    database = PREFECT_API_DATABASE_CONNECTION_URL.value() or ""
    if database.startswith("sqlite"):
        file = database.partition("///")[2]
        places["prefect"] = "\n".join(sqlite3.connect(file).iterdump())
        assert "recapture-summary" in places["prefect"]
    assert [str(place) for place, text in places.items() if SECRET in text] == []
    assert sum("X-Amz-Signature=***" in text for text in places.values()) >= 3


@pytest.mark.integration
def test_a_jobs_own_ray_and_the_dashboards_listen_on_loopback_only(tmp_path):
    code = (
        "import sys\n"
        "from recapture.conf.schema import ExecutionConfig\n"
        "from recapture.tasks.engine.executor import open_executor\n"
        "from recapture.tasks.engine.stage import Resources\n"
        "import psutil\n"
        "with open_executor(ExecutionConfig(workers=1), sys.argv[1]) as pool:\n"
        "    pool._cluster.connect()\n"
        "    pool._cluster.start(Resources(cpus=0))\n"
        "    me = psutil.Process()\n"
        "    for process in [me, *me.children(recursive=True)]:\n"
        "        try: connections = process.net_connections('inet')\n"
        "        except psutil.NoSuchProcess: continue\n"
        "        for connection in connections:\n"
        "            if connection.status == 'LISTEN': print(connection.laddr.ip)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=clean,
    )
    heard = set(done.stdout.split())
    assert heard and heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert dashboards.HOST == "127.0.0.1"


def test_the_settings_of_a_job_cannot_lead_out_of_its_folders(tmp_path):
    from recapture.conf.errors import UserError

    with pytest.raises(UserError, match=r"dataset\.name"):
        configure(tmp_path, "--dataset.name", "../other")
