"""Motion transfer of tiny clips: what it leaves, what it reuses, what may go wrong without harm."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file
from support.moving_clips import BLUE, moving_square, wall, write_clips
from support.tiny_base import write_tiny_base

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.plan import print_plan
from recapture.flows.environment import tracking_uri
from recapture.flows.transfer import transfer
from recapture.models.wan.adapter_file import FILE_NAME, open_adapter
from recapture.models.wan.head_masks import heads_of_note
from recapture.tasks.transfer.transferring import Transfer

pytestmark = pytest.mark.integration
SMALL = "[{preset: orbit_right, angle_degrees: 10}]"
FINE = "left/fine"


def words(root, *more):
    return [
        *("--dataset.name", "small", "--dataset.uri", f"{root}/targets", "--execution.executor", "inline"),
        *("--transfer.reference", f"{root}/references", "--fill.base", f"{root}/base"),
        *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
        *("--tracking.enabled", "false", "--execution.max_failure_share", "0.8", "--fill.steps", "1"),
        *(
            "--transfer.training.steps",
            "3",
            "--transfer.training.rank",
            "2",
            "--transfer.augment.copies",
            "1",
        ),
        *("--transfer.training.log_every", "1", "--transfer.augment.held_out", "1"),
        *("--transfer.spatial.steps", "1", "--transfer.spatial.scale", "1", "--transfer.window", "9"),
        *("--transfer.heads.rule", "half", "--transfer.heads.sigmas", "[0.5]", "--transfer.heads.rows", "4"),
        *more,
    ]


def configured(root, *more):
    return load_config(arguments=words(root, *more))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """References, three of which cannot be used, and targets: a clip and a picture."""
    root = tmp_path_factory.mktemp("clips")
    cut = np.concatenate([moving_square(5), np.stack([wall(7, 32) // 8] * 5)])
    references = {"fine": moving_square(12), "short": moving_square(5), "cut": cut}
    write_clips(root / "references/left", references | {"rest": moving_square(9, far=0)})
    still = {"colour": BLUE, "far": 0}
    targets = {"box": moving_square(9, seed=2, **still), "one": moving_square(1, seed=3, **still)}
    write_clips(root / "targets", targets)
    write_tiny_base(root / "base")
    return root


@pytest.fixture(scope="module")
def finished(clips, prefect_server, migrated_mlflow):
    """A transfer in two passes with tracking: its folder, further settings and summary."""
    (clips / "state").mkdir()
    shutil.copy(migrated_mlflow, clips / "state/mlflow.db")
    more = ("--transfer.camera", "two_passes", "--trajectories", SMALL, "--tracking.enabled", "true")
    return clips, more, transfer(configured(clips, *more))


def test_bad_references_are_named_with_the_way_out_and_the_others_go_on(finished):
    _, _, summary = finished
    errors = {failure.item: failure.error for failure in summary.failures}
    assert errors.keys() == {"left/short", "left/rest", "left/cut"}
    assert "has 5 frames, fewer than the smallest window of 9; give a longer clip" in errors["left/short"]
    assert "moves 0.0 px in 9 frames, less than transfer.least_motion 2" in errors["left/rest"]
    assert "is cut at frame 5 of the 9 that are used; give the shot alone" in errors["left/cut"]
    assert summary.counts["motion_tune"] == {"ok": 1, "blocked": 3}
    assert summary.counts["transfer"] == {"ok": 2, "blocked": 6}
    assert summary.delivered == 2 and summary.wanted == 8 and summary.acceptable


def test_a_transfer_leaves_videos_sheets_and_an_adapter_of_the_chosen_heads(finished):
    root, _, summary = finished
    for target in ("box", "one"):
        folder = root / "outputs/small" / target / "motion-left-fine"
        names = {path.name for path in folder.iterdir()}
        assert {"transfer.mp4", "side_by_side.mp4", "contact_sheet.png", "recapture.json"} <= names
        assert (folder / "orbit_right_10/recapture.mp4").is_file()  # the second pass
    motions = root / "outputs/small/motions/left-fine"
    assert summary.adapters == {FINE: str(motions)}
    notes = open_adapter(motions / FILE_NAME).notes
    heads = heads_of_note(notes["heads"])
    assert heads.sum(1).tolist() == [1, 1]  # of two in each block
    for name, weight in load_file(motions / FILE_NAME).items():
        if ".lora_B." in name:
            own = heads[int(name.split("blocks.")[1].split(".")[0])].repeat_interleave(12)
            assert weight[~own].abs().max() == 0 < weight[own].abs().max(), name
    spatial = load_file(motions / "spatial" / FILE_NAME)
    assert all(value.abs().max() > 0 for name, value in spatial.items() if ".lora_A." in name)


def test_results_differ_from_the_base_and_keep_the_first_frame(finished):
    root, _, _ = finished
    store = ArtifactStore(f"{root}/artifacts")
    made, alone = (
        [store.open(stage, key) for key in store.keys(stage)] for stage in ("transfer", "transfer_base")
    )
    bases = [one.frames().read(0, 9, ["rgb"])["rgb"] for one in alone]
    for artifact in made:
        result = artifact.frames().read(0, 9, ["rgb"])["rgb"]
        (base,) = (one for one in bases if (one[0] == result[0]).all())  # of the same target
        assert (result[1:] != base[1:]).any()
        assert (artifact.meta["fps"], artifact.meta["frames"]) == ("8", 9)
        assert {name: len(rows) for name, rows in artifact.read_npz("cameras.npz").items()} == dict.fromkeys(
            ("intrinsics", "world_to_camera", "pose_group"), 9
        )


def test_mlflow_has_a_run_a_stage_with_the_curve_and_a_registered_adapter(finished):
    from mlflow import MlflowClient

    root, more, summary = finished
    client = MlflowClient(tracking_uri(configured(root, *more)))
    parent = client.get_run(summary.mlflow_run)
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    by_stage = {run.data.tags["stage"]: run for run in children}
    assert {"heads", "motion_examples", "motion_tune", "transfer", "motion_measure"} <= by_stage.keys()
    tune = by_stage["motion_tune"].info.run_id
    assert [point.step for point in client.get_metric_history(tune, f"{FINE}/loss")] == [1, 2, 3]
    assert "result/motion_fidelity" in parent.data.metrics
    (version,) = client.search_model_versions("name='small-motion-left-fine'")
    assert client.download_artifacts(version.run_id, f"motions/{FINE}/{FILE_NAME}")


def test_a_second_run_reuses_everything_and_another_scale_only_samples_anew(finished, capsys):
    root, more, _ = finished
    quiet = (*more, "--tracking.enabled", "false")
    again = transfer(configured(root, *quiet))
    made = {status for counts in again.counts.values() for status, count in counts.items() if count}
    assert made == {"reused", "quarantined", "blocked"}
    other = configured(root, *quiet, "--transfer.scale", "0.5")
    capsys.readouterr()
    print_plan(other, kind="transfer")
    assert "transfer_base" in capsys.readouterr().out
    summary = transfer(other)
    assert summary.counts["transfer"]["ok"] == 2 and "ok" not in summary.counts["transfer_base"]
    assert "ok" not in summary.counts["motion_tune"]


def test_a_diverging_loss_is_one_message_and_its_last_good_adapter_is_kept(clips, prefect_server):
    wild = ("--transfer.training", "{rate: 1.0e+30, clip: 1.0e+30, warm_up: 1}", "--dataset.name", "wild")
    only = ("--transfer.reference_where", FINE, "--transfer.spatial", "{steps: 0, scale: 0}")
    summary = transfer(configured(clips, *wild, *only))
    (failure,) = summary.failures
    assert (failure.item, failure.stage) == (FINE, "motion_tune")
    assert "lower the learning rate" in failure.error and "last_good.safetensors" in failure.error
    assert not summary.acceptable and summary.counts["transfer_base"] == {"reused": 2}


def test_without_a_reference_a_target_or_a_mask_where_one_is_needed_nothing_begins(clips):
    with pytest.raises(UserError, match=r"set transfer.reference to a clip id"):
        Transfer(load_config(arguments=["--dataset.uri", f"{clips}/targets"]))
    with pytest.raises(UserError, match=r"'nope' matches no clip of the dataset \(box, one\), and cannot be"):
        Transfer(configured(clips, "--transfer.reference", "nope"))
    with pytest.raises(UserError, match=r"'\*' matches every clip of the dataset, so there is no target"):
        Transfer(configured(clips, "--transfer.reference", "*"))
    with pytest.raises(UserError, match=r"swept needs to know what moves.*set mask.objects"):
        Transfer(configured(clips, "--transfer.start", "swept"))


def test_a_clip_of_the_dataset_can_be_the_reference_of_the_others(clips):
    job = Transfer(configured(clips, "--transfer.reference", "box"))
    assert [clip.id for clip in job.clips] == ["box", "one"]
    assert set(job.summary.videos) == {"one@motion-box"}


@pytest.mark.full
def test_a_body_moved_explicitly_goes_the_way_of_the_true_transfer(tmp_path, prefect_server):
    scene = "category=single&reference=0&frames=9&side=64"
    summary = transfer(
        load_config(
            arguments=[
                *(
                    "--dataset.name",
                    "small",
                    "--dataset.uri",
                    f"motionscenes://?show=targets&{scene}&target=0",
                ),
                *("--transfer.reference", f"motionscenes://?show=references&{scene}"),
                *("--transfer.method", "explicit", "--transfer.start", "swept", "--mask.objects", "[1]"),
                *("--store", f"{tmp_path}/artifacts", "--outputs", f"{tmp_path}/outputs"),
                *("--state", f"{tmp_path}/state", "--tracking.enabled", "false"),
                *("--execution.executor", "inline"),
            ]
        )
    )
    assert (summary.delivered, summary.wanted) == (1, 1)
    (written,) = (tmp_path / "outputs").rglob("motion-*/recapture.json")
    metrics = json.loads(written.read_text())["metrics"]
    assert metrics["result/motion_direction"] > 0.95
    assert 0.9 < metrics["result/motion_amplitude"] < 1.1
    assert metrics["result/psnr_elsewhere"] > metrics["base/psnr_elsewhere"] + 3
