"""A manifest tells the newest of every item, from whatever whole parts there are."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest

from recapture.datasets.store import manifest
from recapture.datasets.store.manifest import (
    SCHEMA,
    ManifestDamaged,
    compact,
    datasets,
    forget,
    named_keys,
    read_manifest,
    stages,
    write_part,
)
from recapture.datasets.store.storage import open_filesystem

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def row(key="k1", **changes):
    values = {
        "clip_id": "bmx/003",
        "item": "bmx/003@left",
        "key": key,
        "stage": "depth",
        "status": "ok",
        "attempts": 1,
        "error_type": "",
        "error": "",
        "seconds": 1.5,
        "gpu_seconds": 0.5,
        "bytes": 10,
        "device": "x86_64",
        "vram_peak_mb": 0.0,
        "parent_keys": ["p1", "p2"],
        "code_version": "1",
        "run_id": "r1",
        "metrics": {"psnr": 30.25},
    }
    return {**values, **changes}


def test_rows_come_back_as_they_were_written(root):
    before = datetime.now(UTC)
    write_part(root, "set", "depth", "r1", 0, [row(), row("k2", metrics={}, parent_keys=[])])
    read = read_manifest(root, "set", "depth")
    assert list(read) == ["k1", "k2"]
    created = {key: found.pop("created_at") for key, found in read.items()}
    assert all(before <= moment <= datetime.now(UTC) for moment in created.values())
    assert read["k1"] == {**row(), "schema_version": 1}
    assert read["k2"]["metrics"] == {}
    assert read["k2"]["parent_keys"] == []


def test_parts_of_all_shards_and_runs_are_merged(root):
    write_part(root, "set", "depth", "r1", 0, [row("a")])
    write_part(root, "set", "depth", "r1", 1, [row("b")])
    write_part(root, "set", "depth", "r2", 0, [row("c")])
    assert sorted(read_manifest(root, "set", "depth")) == ["a", "b", "c"]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_newest_row_of_a_key_counts_whatever_its_part_is_called(root, order):
    old, new = order
    write_part(root, "set", "depth", new, 0, [row(status="ok", created_at=NOW)])
    write_part(root, "set", "depth", old, 0, [row(status="error", created_at=NOW - timedelta(seconds=1))])
    assert read_manifest(root, "set", "depth")["k1"]["status"] == "ok"


def test_the_later_row_of_one_part_counts(root):
    write_part(root, "set", "depth", "r1", 0, [row(status="error"), row(status="ok")])
    assert read_manifest(root, "set", "depth")["k1"]["status"] == "ok"


def test_a_shard_tried_again_adds_to_its_rows(root):
    # Prefect repeats a shard within one run; what the first try has made is only reused by the second.
    parts = [write_part(root, "set", "depth", "r1", 0, [row(key)]) for key in "abc"]
    assert len(set(parts)) == 3
    assert sorted(read_manifest(root, "set", "depth")) == ["a", "b", "c"]


@pytest.mark.parametrize("damage", [lambda whole: whole[:-20], lambda whole: whole[:10], lambda whole: b""])
def test_a_torn_part_is_named_and_left_out(root, damage, caplog):
    write_part(root, "set", "depth", "r1", 0, [row("a")])
    torn = write_part(root, "set", "depth", "r2", 0, [row("b")])
    filesystem, _ = open_filesystem(root)
    filesystem.pipe_file(torn, damage(filesystem.cat_file(torn)))
    assert list(read_manifest(root, "set", "depth")) == ["a"]
    assert "part-r2-00000.parquet" in caplog.text


def test_what_is_no_part_is_left_out(root):
    part = write_part(root, "set", "depth", "r1", 0, [row("a")])
    filesystem, _ = open_filesystem(root)
    filesystem.pipe_file(part.replace("part-r1-00000.parquet", ".part-r2.parquet.tmp"), b"half")
    assert list(read_manifest(root, "set", "depth")) == ["a"]


def test_a_stage_that_never_ran_has_no_rows(root):
    assert read_manifest(root, "set", "depth") == {}
    assert stages(root, "set") == []


def test_stages_and_datasets_are_kept_apart(root):
    write_part(root, "set", "depth", "r1", 0, [row("a")])
    write_part(root, "set", "fill", "r1", 0, [row("b", stage="fill")])
    write_part(root, "other", "render", "r1", 0, [row("c", stage="render")])
    assert stages(root, "set") == ["depth", "fill"]
    assert list(read_manifest(root, "set", "fill")) == ["b"]
    assert list(read_manifest(root, "other", "render")) == ["c"]


def test_a_part_is_ordinary_parquet(tmp_path):
    part = write_part(str(tmp_path), "set", "depth", "r1", 7, [row(metrics={"nan": float("nan")})])
    table = pq.read_table(part)
    assert table.schema.equals(SCHEMA)
    frame = table.to_pandas()
    assert frame.loc[0, "clip_id"] == "bmx/003"
    assert np.isnan(dict(frame.loc[0, "metrics"])["nan"])
    assert part.endswith("/manifests/set/depth/part-r1-00007.parquet")


def test_compacting_keeps_every_row_and_which_one_is_the_newest(root):
    write_part(root, "set", "depth", "r2", 0, [row("a", status="ok", created_at=NOW), row("b", metrics={})])
    write_part(root, "set", "depth", "r1", 0, [row("a", status="error", created_at=NOW - timedelta(hours=1))])
    write_part(root, "set", "depth", "r3", 0, [row("c", status="error", created_at=NOW)])
    write_part(root, "set", "depth", "r4", 0, [row("c", status="ok", created_at=NOW, run_id="r4")])
    before = read_manifest(root, "set", "depth")
    assert compact(root, "set", "depth") == 4
    assert read_manifest(root, "set", "depth") == before
    assert (before["a"]["status"], before["c"]["status"]) == ("ok", "ok")
    filesystem, base = open_filesystem(root)
    filesystem.invalidate_cache()
    (part,) = filesystem.find(f"{base}/manifests/set/depth")
    assert pq.read_table(filesystem.open(part)).num_rows == 5
    assert compact(root, "set", "depth") == 0
    write_part(root, "set", "depth", "r1", 0, [row("d")])
    assert compact(root, "set", "depth") == 2
    assert sorted(read_manifest(root, "set", "depth")) == ["a", "b", "c", "d"]


def test_compacting_that_is_killed_before_the_old_parts_go_doubles_no_row(root, monkeypatch):
    for run in ("r1", "r2"):
        write_part(root, "set", "depth", run, 0, [row(run, run_id=run)])
    before = read_manifest(root, "set", "depth")

    class Killed(BaseException):
        pass

    read = manifest._read

    def killed_before_reading_back(filesystem, path):
        if "/part-compact" in path:
            raise Killed
        return read(filesystem, path)

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "_read", killed_before_reading_back)
        with pytest.raises(Killed):
            compact(root, "set", "depth")
    assert read_manifest(root, "set", "depth") == before
    assert compact(root, "set", "depth") == 3
    assert read_manifest(root, "set", "depth") == before
    filesystem, base = open_filesystem(root)
    filesystem.invalidate_cache()
    (part,) = filesystem.find(f"{base}/manifests/set/depth")
    assert pq.read_table(filesystem.open(part)).num_rows == 2


def test_compacting_stops_at_a_part_that_cannot_be_read(root):
    write_part(root, "set", "depth", "r1", 0, [row("a")])
    torn = write_part(root, "set", "depth", "r2", 0, [row("b")])
    filesystem, base = open_filesystem(root)
    filesystem.pipe_file(torn, b"PAR1")
    before = sorted(filesystem.find(f"{base}/manifests"))
    with pytest.raises(ManifestDamaged, match=r"part-r2-00000.parquet cannot be read.*delete it if"):
        compact(root, "set", "depth")
    filesystem.invalidate_cache()
    assert sorted(filesystem.find(f"{base}/manifests")) == before


def test_a_reader_that_is_overtaken_by_compacting_misses_no_row(root, monkeypatch):
    for run in ("r1", "r2", "r3"):
        write_part(root, "set", "depth", run, 0, [row(run, run_id=run)])
    read, overtaken = manifest._read, []

    def read_late(filesystem, path):
        if not overtaken:
            overtaken.append(path)
            with monkeypatch.context() as patch:
                patch.setattr(manifest, "_read", read)
                compact(root, "set", "depth")
        return read(filesystem, path)

    monkeypatch.setattr(manifest, "_read", read_late)
    assert sorted(read_manifest(root, "set", "depth")) == ["r1", "r2", "r3"]


def test_named_keys_are_those_of_any_part_before_and_after_compacting(root):
    write_part(root, "set", "depth", "r1", 0, [row("a"), row("b")])
    write_part(root, "set", "depth", "r2", 0, [row("c")])
    for _ in range(2):
        assert named_keys(root, "set", "depth", {"a", "c", "x"}) == {"a", "c"}
        assert named_keys(root, "set", "fill", {"a"}) == set()
        compact(root, "set", "depth")
    assert datasets(root) == ["set"]


def test_named_keys_read_each_part_once_however_many_there_are(root, monkeypatch):
    filesystem, _ = open_filesystem(root)
    for number in range(20):
        write_part(root, "set", "depth", f"r{number}", 0, [row(f"k{number}")])
    reads, original = [], filesystem.cat_file
    monkeypatch.setattr(filesystem, "cat_file", lambda path: reads.append(path) or original(path))
    wanted = {f"k{number}" for number in range(30)}
    assert len(named_keys(root, "set", "depth", wanted)) == len(reads) == 20
    write_part(root, "set", "depth", "r20", 0, [row("k20")])
    assert len(named_keys(root, "set", "depth", wanted)) == len(reads) == 21
    assert len(named_keys(root, "set", "depth", wanted)) == len(reads) == 21
    for path in filesystem.find(open_filesystem(root)[1] + "/manifests"):
        filesystem.rm_file(path)
    assert named_keys(root, "set", "depth", wanted) == set()


def parts_of(root, stage="depth"):
    filesystem, base = open_filesystem(root)
    filesystem.invalidate_cache()
    folder = f"{base}/manifests/set/{stage}"
    return sorted(path.removeprefix(folder) for path in filesystem.find(folder))


def test_rows_of_all_shares_are_one_manifest_whose_newest_rows_count(root):
    write_part(root, "set", "depth", "r1", 0, [row("a", status="error", created_at=NOW)])
    write_part(root, "set", "depth", "r2", 0, [row("a", created_at=NOW + timedelta(1))], share="1-of-2")
    write_part(root, "set", "depth", "r3", 0, [row("b")], share="2-of-2")
    write_part(root, "set", "depth", "r3", 1, [row("c")], share="2-of-2")
    assert len(parts_of(root)) == 4 and "/2-of-2/part-r3-00001.parquet" in parts_of(root)
    read = read_manifest(root, "set", "depth")
    assert sorted(read) == ["a", "b", "c"] and read["a"]["status"] == "ok"
    assert (stages(root, "set"), datasets(root)) == (["depth"], ["set"])


def test_compacting_leaves_one_part_for_each_share_and_every_row(root):
    for share in (None, "1-of-2", "2-of-2"):
        for run in ("r1", "r2", "r3"):
            write_part(root, "set", "depth", run, 0, [row(f"{share}{run}", run_id=run)], share=share)
    before = read_manifest(root, "set", "depth")
    assert compact(root, "set", "depth") == 9
    assert [path.split("/")[-2] for path in parts_of(root)] == ["1-of-2", "2-of-2", ""]
    assert read_manifest(root, "set", "depth") == before and len(before) == 9
    assert compact(root, "set", "depth") == 0


def test_forgetting_keys_rewrites_only_the_shares_that_name_them(root):
    for share, key in (("1-of-2", "a"), ("2-of-2", "b"), ("2-of-2", "c")):
        write_part(root, "set", "depth", key, 0, [row(key)], share=share)
    (kept,) = [path for path in parts_of(root) if "1-of-2" in path]
    forget(root, "set", "depth", ["b"])
    assert sorted(read_manifest(root, "set", "depth")) == ["a", "c"]
    assert kept in parts_of(root)


def test_a_share_reads_no_parts_of_its_siblings_when_it_looks_for_its_keys(root, monkeypatch):
    write_part(root, "set", "depth", "r0", 0, [row("before")])
    write_part(root, "set", "depth", "r1", 0, [row("own")], share="1-of-4")
    write_part(root, "set", "depth", "r2", 0, [row("sibling")], share="2-of-4")
    write_part(root, "set", "depth", "r3", 0, [row("halves")], share="2-of-2")  # may hold clips of 1-of-4
    filesystem, _ = open_filesystem(root)
    reads, original = [], filesystem.cat_file
    monkeypatch.setattr(filesystem, "cat_file", lambda path: reads.append(path) or original(path))
    wanted = {"before", "own", "halves"}
    assert named_keys(root, "set", "depth", wanted, share="1-of-4") == wanted
    assert len(reads) == 3 and not any("2-of-4" in path for path in reads)
    assert named_keys(root, "set", "depth", {"sibling"}) == {"sibling"}


def test_two_processes_may_compact_at_once(root, monkeypatch):
    for run in "abc":
        write_part(root, "set", "depth", run, 0, [row(run, run_id=run)])
    replace = manifest._replace_parts

    def beaten(*arguments):  # another process compacts between reading and replacing
        monkeypatch.setattr(manifest, "_replace_parts", replace)
        compact(root, "set", "depth")
        replace(*arguments)

    monkeypatch.setattr(manifest, "_replace_parts", beaten)
    compact(root, "set", "depth")
    assert sorted(read_manifest(root, "set", "depth")) == ["a", "b", "c"]
    assert compact(root, "set", "depth") == 2
    assert sorted(read_manifest(root, "set", "depth")) == ["a", "b", "c"]
