"""What tuning on a dataset's own clips is worth, on procedural scenes whose other views are known.

    python benchmarks/tuning.py                # trains every adapter that is missing, then measures
    python benchmarks/tuning.py --table        # the tables of what is measured already

Scenes as in embedded_base.py, 17 frames of 128 x 128, true depth; the target is an orbit to the right by the
full angle in every frame. Adapters are trained on the scenes' source videos alone, one for all scenes and one
training for each seed; every one makes the same number of steps. `single`: all pairs from the start;
`iterative`: three rounds of growing angles, from the second one on with the clips' own recaptures (cycle
pairs). All fill as a job does, propagation and paste included. `packed` shows the base frames of its fill at
the angle before. Every measurement goes to --rows as a JSON line and is not made again; processes share the
work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from parallel import share
from tuning_measure import measure
from tuning_plan import ARMS, FILLS, MASKS, ROUNDS, Arm, Fill, Plan
from tuning_tables import print_tables
from tuning_train import make_pairs, train_arm


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--adapters", default="outputs/benchmarks/adapters")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/tuning.jsonl"))
    parser.add_argument("--first", type=int, default=0, help="The first scene.")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0, 30.0, 45.0, 60.0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--clip-steps", type=int, default=150, help="Of an adapter a clip.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--moves", type=int, default=6)
    parser.add_argument("--only", nargs="+", help="These arms, and fills with them or the base.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Begin nothing after so long.")
    parser.add_argument("--table", action="store_true", help="Measure nothing.")
    given = parser.parse_args()
    plan = Plan(
        *(given.base, given.adapters, given.first, given.clips, given.steps, given.clip_steps, given.batch),
        *(given.rank, given.rate, given.moves, tuple(given.angles), time.time() + given.seconds),
    )
    arms = [arm for arm in ARMS if not given.only or arm.name in given.only]
    fills = [fill for fill in FILLS if fill.arm is None or fill.arm in {arm.name for arm in arms}]
    if not given.table:
        work(plan, arms, fills, given)
    print_tables(given.rows, [fill.name for fill in fills], plan.scenes, given.seeds)


def work(plan: Plan, arms: Sequence[Arm], fills: Sequence[Fill], given: argparse.Namespace) -> None:
    """Make the pairs, the adapters and the measurements that are missing."""
    pool = {"workers": given.workers, "device": given.device}
    seeds = range(given.seeds)
    Path(plan.adapters).mkdir(parents=True, exist_ok=True)
    plan.pairs(0, 0, "", 0).parent.mkdir(exist_ok=True)
    wanted = {
        (plan, clip, seed)
        for arm in arms
        for seed in seeds
        if plan.missing(arm, seed)
        for clip in (*plan.scenes, *plan.further(arm))
        if not plan.pairs(clip, seed, [*MASKS][-1], len(ROUNDS) - 1).exists()
    }
    begun = time.time()
    list(share(make_pairs, sorted(wanted, key=lambda job: job[1:]), **pool))
    print(f"pairs of {len(wanted)} clips: {time.time() - begun:.0f} s", flush=True)
    for scopes in (("dataset",), ("clip", "both")):  # the second kind goes on from the first
        todo = [
            (plan, arm, seed, clip)
            for seed in seeds
            for arm in sorted(arms, key=lambda arm: -arm.cycles * arm.iterative)
            if arm.scope in scopes
            for clip in plan.missing(arm, seed)
        ]
        for line in share(train_arm, todo, **pool):
            print(f"[{time.time() - begun:.0f} s] {line}", flush=True)
    measured = set()
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    if given.rows.exists():
        measured = {tuple(json.loads(line)[:4]) for line in given.rows.read_text().splitlines()}
    by_name = {arm.name: arm for arm in arms}
    jobs = []
    for seed in seeds:
        for clip in plan.scenes:
            missing = [
                fill
                for fill in fills
                if (fill.arm is None or plan.adapter(by_name[fill.arm], seed, clip).exists())
                and any((fill.name, clip, seed, angle) not in measured for angle in plan.angles)
            ]
            if missing:
                jobs.append((plan, clip, seed, [(fill, by_name.get(fill.arm or "")) for fill in missing]))
    for rows in share(measure, jobs, **pool):
        with given.rows.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
