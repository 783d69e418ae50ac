"""The results page of a real job: its files, its record, what a second job writes, and storage over HTTP."""

import json

import fsspec
import numpy as np
import pytest
from support.bare_job import configure
from support.whole_job import run_whole

from recapture.datasets.media.video import iterate_frames
from recapture.flows.commands.report import make_report
from recapture.tasks.report.record import read_record

WORDS = ("--measure.baselines", "false")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two clips, one of them broken at its measurement: the first job of a dataset."""
    root = tmp_path_factory.mktemp("page")
    config = configure(root, *WORDS)
    summary, run = run_whole(config)
    return root, config, summary, run


def data_of(folder):
    text = (folder / "page.js").read_text()
    return json.loads(text.removeprefix("recapturePage(").removesuffix(");\n"))


def test_a_job_leaves_a_page_of_the_dataset_and_of_each_clip(done):
    root, config, summary, run = done
    place = root / "outputs/small"
    assert summary.page == f"{config.outputs}/small/index.html" and not summary.warnings
    assert (place / "index.html").stat().st_size > 10_000
    report = read_record(str(place))
    assert (report.run, report.flow, report.wanted, report.delivered) == (run, "recapture", 2, 2)
    assert [row["stage"] for row in report.stages] == list(summary.counts)
    assert sum(row["made"] for row in report.stages) == 12 and report.stages[0]["seconds"] > 0
    assert "classical/psnr" in report.videos.metrics and "short_side: 128" in report.settings
    for clip in report.videos.clip:
        assert (place / clip / "index.html").is_file()


def test_the_page_video_holds_every_picture_of_every_frame(done):
    """Against the pictures that the artifacts hold: source, render and truth are read from them again."""
    root, *_ = done
    report = read_record(str(root / "outputs/small"))
    folder = root / "outputs/small" / report.videos.clip[0] / report.videos.label[0]
    data = data_of(folder)
    video = np.stack(list(iterate_frames(str(folder / "page.mp4"))))
    delivered = np.stack(list(iterate_frames(str(folder / "recapture.mp4"))))
    assert data["kinds"] == ["result", "source", "render", "visible", "truth"]
    assert data["frames"] == len(video) == len(delivered) == len(data["holes"]) == len(data["seams"]) == 5
    assert data["size"] == [48, 32] and data["cell"] == [48, 32] and data["columns"] == 3

    def part(kind):
        place = data["kinds"].index(kind)
        y, x = place // 3 * 32, place % 3 * 48
        return video[:, y : y + 32, x : x + 48].astype(float)

    assert np.abs(part("result") - delivered).mean() < 8
    holes = part("visible").mean((1, 2, 3)) / 255
    assert holes == pytest.approx(np.array(data["holes"]), abs=0.02)
    known = part("visible").mean(-1) < 20
    assert 0.3 < known.mean() < 1
    assert np.abs(part("render") - part("result"))[known].mean() < 10, "known pixels are those of the render"
    assert np.abs(part("source") - part("result"))[0].mean() < 12, "the path begins at the source's camera"
    assert np.abs(part("truth") - part("result"))[known].mean() < 16
    paths = data["cameras"]
    assert len(paths["result"]["at"]) == 5 and paths["source"]["at"][4] != paths["result"]["at"][4]


def test_the_next_job_writes_only_pages_that_changed(done):
    root, config, _, run = done
    place = root / "outputs/small"
    clip = read_record(str(place)).videos.clip[0]
    before = (place / clip / "index.html").stat().st_mtime_ns
    summary, again = run_whole(config)
    assert summary.reused_everything and again != run
    assert read_record(str(place)).run == again
    assert (place / clip / "index.html").stat().st_mtime_ns == before
    make_report(config)
    assert (place / clip / "index.html").stat().st_mtime_ns > before, "recapture report makes all anew"
    make_report(config, run)
    assert (place / f"against-{run}.html").is_file()
    assert f"against-{run}.html" in (place / "index.html").read_text()
    assert (place / "_page" / run / clip / read_record(str(place)).videos.label[0] / "page.mp4").is_file()


def test_without_the_page_nothing_of_it_is_written(done, tmp_path):
    config = configure(tmp_path, *WORDS, "--deliver.page", "false", count=1)
    summary, _ = run_whole(config)
    assert summary.page is None and summary.delivered == 1
    assert [
        path for path in (tmp_path / "outputs").rglob("*") if "page" in path.name or path.name == "index.html"
    ] == []


def test_a_page_that_cannot_be_written_costs_no_result(done, monkeypatch):
    _, config, *_ = done

    def refuse(*given):
        raise OSError("the disk is full")

    monkeypatch.setattr("recapture.tasks.jobs.page.record_job", refuse)
    summary, _ = run_whole(config)
    assert summary.delivered == 2 and summary.page is None
    assert summary.warnings == ["the results page could not be written: the disk is full; run the job again"]


def test_pages_are_written_to_s3(done, s3_endpoint):
    root, config, *_ = done
    filesystem = fsspec.filesystem("s3")
    filesystem.mkdir("pages")
    away = config.model_copy(update={"outputs": "s3://pages/out"})
    summary, _ = run_whole(away)
    assert summary.page == "s3://pages/out/small/index.html"
    found = set(filesystem.find("pages/out/small"))
    clip = read_record("s3://pages/out/small").videos.clip[0]
    assert {
        f"pages/out/small/{name}" for name in ("index.html", "_page/page.css", f"{clip}/index.html")
    } <= found
    assert (
        filesystem.cat_file(f"pages/out/small/{clip}/index.html")
        == (root / "outputs/small" / clip / "index.html").read_bytes()
    )
