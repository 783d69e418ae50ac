"""The record of a job: read as it was written, the newest of each share, clear words where there is none."""

import math

import pytest
from support.results_site import HOSTILE, site_report

from recapture.conf.errors import UserError
from recapture.tasks.report.page import clip_page, column_text, index_page, number
from recapture.tasks.report.record import KEPT, MISSING, Report, Videos, read_record, run_names, write_record


def at(second):
    return f"2026-11-28T10:00:{second:02}.000000+00:00"


def test_a_record_is_read_as_it_was_written(tmp_path):
    report = site_report(("ä/1", "b"))
    report.videos.metrics["base/psnr"][0] = math.inf
    write_record(str(tmp_path), report)
    assert read_record(str(tmp_path)) == report == Report.load(report.dump())
    assert read_record(str(tmp_path), "0123") == report


def test_the_newest_runs_are_kept(tmp_path):
    for second in range(KEPT + 2):
        write_record(str(tmp_path), site_report(("a",), f"run{second:09}", at(second)))
    names = run_names(str(tmp_path))
    assert len(names) == KEPT and names[0] == f"run{KEPT + 1:09}"
    assert read_record(str(tmp_path)).run == names[0]


def test_shares_of_a_dataset_are_one_report(tmp_path):
    given = [
        ("old", "1/2", ("x",)),
        ("one", "1/2", ("a", "b")),
        ("two", "2/2", ("c",)),
        ("of3", "1/3", ("y",)),
    ]
    for second, (run, share, clips) in enumerate([given[3], *given[:3]]):
        report = site_report(clips, run, at(second))
        report.share = share
        write_record(str(tmp_path), report)
    joined = read_record(str(tmp_path))
    assert sorted(set(joined.videos.clip)) == ["a", "b", "c"]
    assert (joined.wanted, joined.delivered, joined.clips, joined.share) == (6, 4, 3, None)
    assert joined.stages[0]["reused"] == 4
    found = dict(zip(zip(joined.videos.clip, joined.videos.label), joined.videos.metrics["base/psnr"]))
    assert found["b", "left"] == 26.0 and found["c", "left"] == 20.0


@pytest.mark.parametrize(
    ("run", "words"),
    [("zz", "no record of 'zz'.*run1, run0|there is no record of 'zz'"), ("run", "2 runs begin")],
)
def test_an_unknown_run_is_an_error_that_names_the_known_ones(tmp_path, run, words):
    for second in range(2):
        write_record(str(tmp_path), site_report(("a",), f"run{second}", at(second)))
    with pytest.raises(UserError, match=words):
        read_record(str(tmp_path), run)


def test_without_any_record_or_with_a_broken_one_the_way_out_is_named(tmp_path):
    with pytest.raises(UserError, match="recapture run"):
        read_record(str(tmp_path))
    folder = tmp_path / "_page/runs"
    folder.mkdir(parents=True)
    (folder / "20261128T1000-a.json.gz").write_bytes(b"no")
    with pytest.raises(UserError, match="delete it"):
        read_record(str(tmp_path))


def test_columns_are_filled_up_where_a_metric_is_missing():
    videos = Videos()
    videos.add("a", "x", "k", "delivered", "", {"base/psnr": 1.0})
    videos.add("b", "x", "", MISSING, "why", {})
    videos.add("c", "x", "k", "delivered", "", {"base/psnr": math.nan, "base/ssim": 0.5})
    assert [videos.value("base/psnr", place) for place in range(3)] == [1.0, None, None]
    assert [videos.value("base/ssim", place) for place in range(3)] == [None, None, 0.5]
    assert column_text([1.0, math.inf, None], 4) == "[1,1e999,null,null]"


def test_no_text_of_a_clip_or_an_error_becomes_part_of_a_page():
    report = site_report(("a", "b'\"&"))
    for text in (index_page(report), index_page(report, linked=False), clip_page(report, "b'\"&", [2, 3])):
        assert "<b>'" not in text and "window.taken=1</script>" not in text
        assert text.count("<script") == text.count("</script>"), "of the scripts of the page alone"
    assert HOSTILE not in index_page(report)


def test_the_page_for_mlflow_needs_no_other_file():
    text = index_page(site_report(("a", "b")), linked=False)
    assert 'src="' not in text and 'rel="stylesheet"' not in text and 'id="reel"' not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(31.4159, "31.4"), (0.12345, "0.123"), (-7.5, "−7.5"), (0.000123, "1.2e-4"), (12345.6, "12346"),
     (0, "0"), (None, "–"), (math.inf, "∞"), (math.nan, "–")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number(value) == text
