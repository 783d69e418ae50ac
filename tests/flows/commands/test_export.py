"""`recapture export`: what other tools read out of the files is what the store holds."""

import json
from datetime import UTC, datetime
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from support.bare_job import configure, run_bare
from support.finished_job import finished_job
from typer.testing import CliRunner

import recapture
from recapture.conf.errors import UserError
from recapture.datasets.cameras.files import load_cameras
from recapture.datasets.cameras.nerfstudio import read_nerfstudio
from recapture.datasets.media.ply import ply_file
from recapture.datasets.store.manifest import read_manifest, write_part
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.cli import app
from recapture.flows.commands.export import ExportOptions, export_dataset
from recapture.flows.commands.export_sources import StoredClips
from recapture.tasks.clip.depth_units import UNMATCHED
from recapture.tasks.clip.export_nerfstudio import depth_steps, depth_unit, write_nerfstudio_view
from recapture.tasks.clip.exported_view import CHUNK, ExportedView, filmed_view, source_view, world_of
from recapture.tasks.jobs.job import recapture_stages

HEIGHT, WIDTH, FRAMES = 30, 44, 5  # worked on at 32x48: padding must not be exported
URI = f"scenes://?count=2&seed=3&frames={FRAMES}&height={HEIGHT}&width={WIDTH}"
PATH = "orbit_right_10"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished job whose first clip is exported both ways."""
    root = tmp_path_factory.mktemp("job")
    config = finished_job(root, "--dataset.uri", URI)
    clip = recapture.manifest("holidays", "ingest", store=config.store)["item"].min()
    for to in ("ply", "nerfstudio"):
        every = 2 if to == "ply" else 1
        assert export_dataset(config, ExportOptions(to, f"{root}/{to}", clip, every=every)) == 0
    return SimpleNamespace(config=config, root=root, clip=clip)


def arrays(job, stage, item=None):
    """The arrays of an artifact, without the padding."""
    read = recapture.arrays("holidays", stage, item or job.clip, store=job.config.store)
    return {name: array[:, :HEIGHT, :WIDTH] if array.ndim > 2 else array for name, array in read.items()}


def read_ply(path):
    """Header lines, points and colours of a PLY file, read by its header alone."""
    content = path.read_bytes()
    end = content.index(b"end_header\n") + len(b"end_header\n")
    header = content[:end].decode("ascii").splitlines()
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [line.split() for line in header if line.startswith("property")]
    vertices = np.frombuffer(content[end:], [(name, kinds[kind]) for _, kind, name in fields])
    assert f"element vertex {len(vertices)}" in header
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float64)
    return header, points, np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)


def projected(points, intrinsics, world_to_camera):
    """Positions [N,2] in pixels and z-depth [N] of points, by the definition of an OpenCV camera."""
    inside = np.einsum("ij,nj->ni", world_to_camera, np.c_[points, np.ones(len(points))])[:, :3]
    image = np.einsum("ij,nj->ni", intrinsics, inside)
    return image[:, :2] / image[:, 2:], inside[:, 2]


def test_each_cloud_is_every_known_pixel_of_its_frame_in_its_place_with_its_colour(job):
    folder = job.root / "ply" / job.clip / "source"
    clouds = sorted((folder / "points").iterdir())
    assert [cloud.name for cloud in clouds] == [f"frame_0000{number}.ply" for number in (0, 2, 4)]
    ingest, depth = arrays(job, "ingest"), arrays(job, "depth")
    for number, cloud in zip((0, 2, 4), clouds):
        header, points, colours = read_ply(cloud)
        at, z = projected(points, ingest["intrinsics"][number], ingest["world_to_camera"][number])
        columns, rows = np.floor(at + 1e-3 * np.sign(0.5 - at % 1)).astype(int).T
        assert np.allclose(at, np.stack([columns, rows], axis=1) + 0.5, atol=1e-3)
        seen = np.zeros((HEIGHT, WIDTH), bool)
        seen[rows, columns] = True
        known = depth["known"][number]
        assert (seen == known).all()
        assert len(points) == known.sum()
        assert np.allclose(z, depth["depth"][number][rows, columns], rtol=1e-5)
        assert (colours == ingest["rgb"][number][rows, columns]).all()
        assert any(line.startswith("comment world: that of the cameras which came") for line in header)
        assert any(line.startswith("comment units: those of the depth that came") for line in header)
        assert f"comment frame: {number}, at {number / 8:.6f} s" in header


def test_a_cloud_is_where_the_new_camera_of_the_export_saw_its_surface(job):
    folder = job.root / "ply" / job.clip
    render = arrays(job, "render", f"{job.clip}@{PATH}")
    cameras = load_cameras(str(folder / "trajectories" / PATH / "cameras.json"))
    assert np.allclose(cameras.world_to_camera, render["world_to_camera"], atol=1e-12)
    assert cameras.size == (WIDTH, HEIGHT)
    _, points, _ = read_ply(folder / "source/points/frame_00004.ply")
    at, z = projected(points, cameras.intrinsics[4], cameras.world_to_camera[4])
    columns, rows = np.floor(at).astype(int).T
    inside = (z > 0) & (columns >= 0) & (columns < WIDTH) & (rows >= 0) & (rows < HEIGHT)
    nearest = np.full((HEIGHT, WIDTH), np.inf)
    np.minimum.at(nearest, (rows[inside], columns[inside]), z[inside])
    both = render["visible"][4] & np.isfinite(nearest)
    assert both.mean() > 0.5
    assert np.median(np.abs(nearest[both] / render["depth"][4][both] - 1)) < 0.02


def test_videos_have_every_frame_and_the_record_names_what_they_were_made_of(job):
    folder = job.root / "ply" / job.clip
    for video in (folder / "source/video.mp4", folder / "trajectories" / PATH / "video.mp4"):
        with av.open(str(video)) as opened:
            frames = list(opened.decode(video=0))
        assert [(one.width, one.height) for one in frames] == [(WIDTH, HEIGHT)] * FRAMES
    record = json.loads((folder / "export.json").read_text())
    stages = ("ingest", "depth", "render", "fill")
    assert set(record["keys"].values()) == {
        key
        for stage in stages
        for key, row in read_manifest(job.config.store, "holidays", stage).items()
        if row["clip_id"] == job.clip
    }


@pytest.mark.parametrize("view", ["source", f"trajectories/{PATH}"])
def test_nerfstudios_convention_carries_points_to_pixels_and_pixels_to_points(job, view):
    folder = job.root / "nerfstudio" / job.clip / view
    fields = json.loads((folder / "transforms.json").read_text())
    assert (fields["w"], fields["h"], len(fields["frames"])) == (WIDTH, HEIGHT, FRAMES)
    assert [frame["time"] for frame in fields["frames"]] == [0, 0.25, 0.5, 0.75, 1]
    _, points, colours = read_ply(folder / fields["ply_file_path"])
    unit, taken = fields["depth_unit_scale_factor"], 0
    for frame in fields["frames"]:
        rgb = cv2.imread(str(folder / frame["file_path"]))[..., ::-1]
        depth = cv2.imread(str(folder / frame["depth_file_path"]), cv2.IMREAD_UNCHANGED)
        assert (rgb.shape, depth.shape, depth.dtype) == ((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH), np.uint16)
        to_world = np.array(frame["transform_matrix"])
        rows, columns = np.nonzero(depth)
        # OpenGL: y up, and the camera looks along -z
        x = (columns + 0.5 - frame["cx"]) / frame["fl_x"]
        y = -(rows + 0.5 - frame["cy"]) / frame["fl_y"]
        z = depth[rows, columns] * unit
        lifted = np.stack([x * z, y * z, -z]).T @ to_world[:3, :3].T + to_world[:3, 3]
        own = points[taken : taken + len(rows)]
        taken += len(rows)
        assert np.linalg.norm(lifted - own, axis=1).max() < 2 * unit
        assert (rgb[rows, columns] == colours[taken - len(rows) : taken]).all()
        inside = (own - to_world[:3, 3]) @ to_world[:3, :3]
        assert (inside[:, 2] < 0).all()
        back = np.stack(
            [
                frame["cx"] - frame["fl_x"] * inside[:, 0] / inside[:, 2],
                frame["cy"] + frame["fl_y"] * inside[:, 1] / inside[:, 2],
            ]
        )
        assert np.allclose(back, np.stack([columns, rows]) + 0.5, atol=1e-2)
    assert taken == len(points) > 1000


def test_nerfstudio_gets_the_pictures_and_cameras_of_the_store(job):
    folder = job.root / "nerfstudio" / job.clip
    item = f"{job.clip}@{PATH}"
    for view, picture, camera in (
        ("source", arrays(job, "ingest"), arrays(job, "ingest")),
        (f"trajectories/{PATH}", arrays(job, "fill", item), arrays(job, "render", item)),
    ):
        read = read_nerfstudio(str(folder / view / "transforms.json"))
        assert np.allclose(read.world_to_camera, camera["world_to_camera"], atol=1e-12)
        assert np.allclose(read.intrinsics, camera["intrinsics"], atol=1e-12)
        shown = [cv2.imread(str(folder / view / name))[..., ::-1] for name in read.names]
        assert (np.stack(shown) == picture["rgb"]).all()


def test_a_view_that_is_not_filled_has_masks_of_what_it_shows(job, tmp_path):
    stored = StoredClips(job.config.store, "holidays").open(job.clip, ["*"])
    view = filmed_view(PATH, source_view(stored.inputs), stored.filmed[PATH][0], None)
    write_nerfstudio_view(str(tmp_path), view, [], pivot_depth=1.0, every=4)
    frames = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    visible = arrays(job, "render", f"{job.clip}@{PATH}")["visible"]
    assert len(frames) == 2
    for number, frame in zip((0, 4), frames):
        mask = cv2.imread(str(tmp_path / frame["mask_path"]), cv2.IMREAD_UNCHANGED)
        depth = cv2.imread(str(tmp_path / frame["depth_file_path"]), cv2.IMREAD_UNCHANGED)
        assert (mask == visible[number] * 255).all()
        assert ((depth > 0) == visible[number]).all()
    assert 0 < visible[4].mean() < 1


def test_what_does_not_exist_is_one_error_that_names_what_does(job, tmp_path):
    def refused(message, config=job.config, **options):
        given = {"to": "ply", "output": str(tmp_path / "out")} | options
        with pytest.raises(UserError, match=message):
            export_dataset(config, ExportOptions(**given))

    refused("--to blend: it is not written; choose one of ply, nerfstudio", to="blend")
    refused(f"no clip with finished depth that matches 'nobody'; it has {job.clip}, ", clips="nobody")
    refused(f"of a trajectory that matches 'zoom'.*it has {PATH}$", trajectories=["orbit*", "zoom"])
    refused("--every 0: give a whole number from 1 on", every=0)
    other = job.config.model_copy(update={"dataset": job.config.dataset.model_copy(update={"name": "holi"})})
    refused(r"'holi' has no manifest in store .*; choose one of .*holidays", config=other)
    assert not (tmp_path / "out").exists()


def test_a_clip_that_cannot_be_exported_stops_no_other(job, tmp_path):
    words = ["export", "holidays", "--store", job.config.store, "--to", "ply", "--every", "5", "--output"]
    (tmp_path / "out" / job.clip / "source").mkdir(parents=True)
    run = CliRunner().invoke(app, [*words, str(tmp_path / "out"), "--trajectory", "orbit*"])
    assert run.exit_code == 1
    assert f"clip {job.clip!r}: not exported: " in run.output
    assert "holds an earlier export; delete it, or choose another --output" in run.output
    assert [one.parent.name for one in (tmp_path / "out").rglob("export.json")] != [job.clip]
    assert len(list((tmp_path / "out").rglob("frame_*.ply"))) == 1


def test_estimated_cameras_belong_to_the_export_and_other_depths_renders_do_not(job, tmp_path):
    words = ("--dataset.uri", URI, "--cameras.source", "still", "--dataset.limit", "1")
    config = configure(job.root, "--dataset.name", "still", *words)
    run_bare(config, recapture_stages(config)[:3])
    found = StoredClips(config.store, "still").open(job.clip, ["*"])
    view = source_view(found.inputs)
    assert (view.world_to_camera == np.eye(4)).all()
    assert world_of(found.inputs, view).startswith("the camera of the first frame (x right, y down")

    rows = {
        (stage, row["clip_id"]): dict(row)
        for stage in ("ingest", "depth", "render")
        for row in read_manifest(config.store, "holidays", stage).values()
    }
    (other,) = {clip for _, clip in rows} - {job.clip}
    older = {"clip_id": job.clip, "item": f"{job.clip}@old", "created_at": datetime(2020, 1, 1, tzinfo=UTC)}
    write_part(config.store, "mixed", "depth", "run", 0, [rows["depth", job.clip]])
    write_part(
        config.store,
        "mixed",
        "render",
        "run",
        0,
        [rows["render", job.clip], rows["render", other] | older],
    )
    mixed = StoredClips(config.store, "mixed").open(job.clip, ["*"])
    assert (list(mixed.filmed), mixed.left_out) == ([PATH], ["old"])


def a_view(frames=20, groups=1, asked=None):
    """A view of a wall at depth 2 whose poses have as many groups; asked: a list of what was read at once."""

    def read(numbers):
        if asked is not None:
            asked.append(len(numbers))
        shape = (len(numbers), 4, 6)
        return {
            "rgb": np.zeros((*shape, 3), np.uint8),
            "depth": np.full(shape, 2, np.float32),
            "known": np.ones(shape, bool),
        }

    lens = np.broadcast_to(np.array([[6.0, 0, 3], [0, 6, 2], [0, 0, 1]]), (frames, 3, 3))
    poses, number = np.broadcast_to(np.eye(4), (frames, 4, 4)), np.arange(frames)
    return ExportedView(
        "source", (6, 4), Fraction(8), lens, poses, number, frames, number % groups, True, read
    )


def test_frames_are_read_a_few_at_a_time_in_their_order():
    asked = []
    assert [frame.number for frame in a_view(3 * CHUNK + 1, asked=asked).frames()] == list(
        range(3 * CHUNK + 1)
    )
    assert asked == [CHUNK, CHUNK, CHUNK, 1]


def test_nerfstudio_refuses_frames_without_a_common_world(tmp_path):
    with pytest.raises(ValueError, match=r"not related \(2 groups\).*export ply"):
        write_nerfstudio_view(str(tmp_path / "a"), a_view(groups=2), [], pivot_depth=2)
    write_nerfstudio_view(str(tmp_path / "b"), a_view(groups=2), [], pivot_depth=2, every=2)  # of one group


def test_depth_in_other_units_than_the_cameras_is_refused():
    depth = SimpleNamespace(meta={"depth_units": UNMATCHED, "depth_evidence": "no parallax"})
    with pytest.raises(ValueError, match=r"cannot be told \(no parallax\).*give depth beside the clip"):
        source_view({"ingest": SimpleNamespace(meta={}), "depth": depth})


@pytest.mark.parametrize(
    ("farthest", "pivot", "unit"),
    [
        (60.0, 2.0, 1e-3),  # nerfstudio's own
        (655.35, 20.0, 1e-2),  # too far for it: the whole range
        (0.65535, 0.1, 1e-5),  # too near for it
        (1e6, 2.0, 2e-3),  # a sky: the pivot has 1000 steps, the sky none
    ],
)
def test_the_unit_of_depth_resolves_the_pivot_and_reaches_as_far_as_it_can(farthest, pivot, unit):
    assert depth_unit(farthest, pivot) == pytest.approx(unit)


def test_depth_is_rounded_to_its_unit_and_0_where_it_is_unknown_or_too_far():
    depth = np.array([[0.0, 0.0001, 0.5, 1.2346, 65.535, 65.536]], np.float32)
    assert depth_steps(depth, 1e-3).tolist() == [[0, 1, 500, 1235, 65535, 0]]


def test_a_comment_is_one_line_of_ascii_and_a_cloud_may_be_empty(tmp_path):
    (tmp_path / "a.ply").write_bytes(ply_file(np.zeros((0, 3)), np.zeros((0, 3)), ["clip: été"]))
    header, points, _ = read_ply(tmp_path / "a.ply")
    assert "comment clip: \\xe9t\\xe9" in header
    assert len(points) == 0
    with pytest.raises(ValueError, match="more than one line"):
        ply_file(np.zeros((0, 3)), np.zeros((0, 3)), ["a\nb"])


def test_artifacts_that_are_gone_fail_their_clip_alone(job, tmp_path, capsys):
    rows = [dict(row) for row in read_manifest(job.config.store, "holidays", "depth").values()]
    lost = [row | {"clip_id": "lost", "item": "lost", "key": "0" * 8} for row in rows[:1]]
    write_part(job.config.store, "gone", "depth", "run", 0, [*rows, *lost])
    assert not ArtifactStore(job.config.store).exists("depth", "0" * 8)
    name = job.config.dataset.model_copy(update={"name": "gone"})
    config = job.config.model_copy(update={"dataset": name})
    assert export_dataset(config, ExportOptions("ply", str(tmp_path), every=FRAMES)) == 1
    assert (
        "clip 'lost': not exported: its frames or depth are no longer in the store" in capsys.readouterr().out
    )
    assert len(list(tmp_path.rglob("export.json"))) == len(rows)
