"""A full or read-only disk stops the job with one message; no clip is blamed, nothing half is left."""

import subprocess
from pathlib import Path

import pytest
from support.bare_job import artifacts, configure, counts, run_bare

from recapture.conf.errors import UserError
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.upkeep import verify
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.engine.retry import StageSick


@pytest.fixture
def disk(tmp_path):
    """A real small disk; gives its path and a function that mounts it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if mount("size=64k").returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder, lambda options: mount(f"remount,{options}").returncode == 0
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_job_with_one_message_and_the_job_goes_on_when_there_is_room(disk, tmp_path):
    folder, remount = disk
    undisturbed = tmp_path / "undisturbed"
    run_bare(configure(undisturbed, count=1))
    config = configure(folder, count=1)
    with pytest.raises(StageSick) as sick:
        run_bare(config)
    message = str(sick.value)
    assert "cannot work" in message and "No space left on device; free space (`recapture gc" in message
    assert "\n" not in message
    assert Quarantine(config.store, "small").entries() == []
    assert [path for path in folder.rglob(".*") if path.is_file()] == []
    assert [problem for _, _, problems in verify(config.store, "small") for problem in problems] == []
    made = len(list(folder.rglob("meta.json")))
    assert 0 < made < 6

    assert remount("size=64m")
    done = counts(run_bare(config))
    assert sum(count == {"reused": 1} for count in done.values()) == made
    assert artifacts(folder) == artifacts(undisturbed)


def test_a_read_only_store_is_named_before_and_during_a_job(disk):
    folder, remount = disk
    assert remount("size=64m")
    config = configure(folder, count=1)
    check_writable("store", config.store)
    run_bare(config)
    assert remount("ro")
    with pytest.raises(UserError, match=r"store .* cannot be written: .*Read-only file system"):
        check_writable("store", config.store)
    assert {str(count) for count in counts(run_bare(config)).values()} == {"{'reused': 1}"}
    changed = configure(folder, "--fill.inpaint_radius", "5", count=1)
    with pytest.raises(StageSick, match=r"stage 'fill' cannot work: .*Read-only file system.*; make it"):
        run_bare(changed)
    assert not Path(config.store, "quarantine").exists()


def test_damage_on_a_read_only_store_stops_the_stage_as_any_other_refusal(disk):
    folder, remount = disk
    assert remount("size=64m")
    config = configure(folder, count=1)
    run_bare(config)
    victim = next(Path(config.store, "objects/render").glob("*/*/frames-*.npz"))
    victim.write_bytes(bytes(victim.stat().st_size))
    assert remount("ro")
    with pytest.raises(StageSick, match=r"stage 'fill' cannot work: .*Read-only file system"):
        run_bare(configure(folder, "--fill.inpaint_radius", "5", count=1))
    assert victim.exists()
