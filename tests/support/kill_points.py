"""Kill a small job at many moments, run it again, and compare its artifacts with an undisturbed job's.

    python -m support.kill_points FOLDER POINTS CLIPS SEED

Prints JSON: one record per point. It forks, so that one import serves every run, in a process of its own.
Half of the points are moments by the clock, half are right before or after a random rename of a written file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch  # noqa: F401  imported before the forks
from support.bare_job import artifacts, configure, run_bare

from recapture.datasets.store.upkeep import garbage


def main() -> None:
    folder, points, clips, seed = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    choose = random.Random(seed)
    undisturbed = folder / "undisturbed"
    started = time.monotonic()
    assert finish(fork(undisturbed, clips)) == 0
    duration = time.monotonic() - started
    expected = artifacts(undisturbed)
    files = len(expected)
    records = []
    for number in range(points):
        root = folder / str(number)
        if number % 2:
            renames, after = choose.randrange(files), choose.random() < 0.5
            child = fork(root, clips, dies_at=(renames, after))
        else:
            child = fork(root, clips)
            time.sleep(duration * choose.random())
            os.kill(child, signal.SIGKILL)
        killed = finish(child) == -signal.SIGKILL
        before = artifacts(root)
        again = finish(fork(root, clips))
        there = artifacts(root)
        records.append(
            {
                "killed": killed,
                "files_before": len(before),
                "kept": all(there.get(path) == content for path, content in before.items()),
                "again": again,
                "same": there == expected,
                "unnamed": [g.path for g in garbage(f"{root}/artifacts", -1) if "named" in g.why],
            }
        )
    print(json.dumps({"files": files, "points": records}))


def fork(root: Path, clips: int, dies_at: tuple[int, bool] | None = None) -> int:
    """Run the job in a child; dies_at: it kills itself at so many renames, before or after the next one."""
    child = os.fork()
    if child:
        return child
    try:
        if dies_at:
            _die_at(*dies_at)
        outcomes = run_bare(configure(root, count=clips))
        usable = all(outcome.usable for made in outcomes.values() for outcome in made)
        os._exit(0 if usable else 3)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(4)


def finish(child: int) -> int:
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_at(renames: int, after: bool) -> None:
    replace, done = Path.replace, [0]

    def dying(self: Path, target: str | Path) -> Path:
        done[0] += 1
        if done[0] > renames and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = replace(self, target)
        if done[0] > renames:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Path.replace = dying  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads of libraries that were there before the forks may not end
