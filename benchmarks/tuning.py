"""What tuning on a dataset's own clips is worth, on procedural scenes whose other views are known.

    python benchmarks/tuning.py                # train every adapter that is missing, then measure
    python benchmarks/tuning.py --table        # the tables of what these settings have measured already

Scenes as in embedded_base.py, 17 frames of 128 x 128, true depth; the target is an orbit to the right by the
full angle in every frame. Adapters are trained on the scenes' source videos alone: one for all scenes, and
one training per seed; all make the same number of steps. `single`: all pairs from the start; `iterative`:
three rounds of growing angles, from the second round on with the clips' own recaptures (cycle pairs). All
fill as a job does, propagation and paste included. `packed` shows the base frames of its fill at the angle
before, so that rows depend on --angles. Adapters, pairs and rows that an earlier call with the same settings
made are not made again; processes share the work. Hours on a GPU with the defaults.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cached_rows import CachedRows, setting_key
from bench.parallel import share
from bench.tables import add_write, publish, this_run
from bench.tuning_measure import measure
from bench.tuning_plan import ARMS, FILLS, MASKS, ROUNDS, Arm, Fill, Plan
from bench.tuning_tables import Values, tables
from bench.tuning_train import make_pairs, train_arm

CHOOSES = ("only", "seeds", "tables")  # arguments that only choose what is measured and shown


def main() -> None:
    given = arguments()
    plan = plan_of(given)
    arms = [arm for arm in ARMS if not given.only or arm.name in given.only]
    fills = [fill for fill in FILLS if fill.arm is None or fill.arm in {arm.name for arm in arms}]
    measured = CachedRows(given.rows, setting_key(__file__, given, chooses=CHOOSES))
    if not given.table:
        work(plan, arms, fills, given, measured)
    values = Values(measured, [fill.name for fill in fills], plan.scenes, given.seeds)
    run = this_run(device=given.device, base=given.base, measured_on=measured.measured_on())
    made = tables(given.write or "tuning", values, run, by_angle=given.tables == "by-angle")
    publish(made, write=given.write is not None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--adapters", default="outputs/benchmarks/tuning")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/tuning.jsonl"))
    parser.add_argument("--first", type=int, default=0, help="The first scene.")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0, 30.0, 45.0, 60.0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--clip-steps", type=int, default=150, help="Steps of an adapter for one clip.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--moves", type=int, default=6, help="Pairs per clip and round.")
    parser.add_argument("--only", nargs="+", help="Only these arms, and fills with them or the base.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Start nothing after this time.")
    parser.add_argument("--table", action="store_true", help="Measure nothing.")
    parser.add_argument("--tables", choices=("by-metric", "by-angle"), default="by-metric")
    add_write(parser, "tuning-sweep")
    return parser.parse_args(words)


def plan_of(given: argparse.Namespace) -> Plan:
    """Return what all jobs share; its folder is keyed by everything that pairs and adapters depend on."""
    trained = setting_key(__file__, given, chooses=(*CHOOSES, "angles"))
    return Plan(
        base=given.base,
        folder=Path(given.adapters) / trained,
        first=given.first,
        clips=given.clips,
        steps=given.steps,
        clip_steps=given.clip_steps,
        batch=given.batch,
        rank=given.rank,
        rate=given.rate,
        moves=given.moves,
        angles=tuple(given.angles),
        ends=time.time() + given.seconds,
    )


def work(
    plan: Plan, arms: Sequence[Arm], fills: Sequence[Fill], given: argparse.Namespace, measured: CachedRows
) -> None:
    """Make the pairs, the adapters and the measurements that are missing."""
    pool = {"workers": given.workers, "device": given.device}
    train(plan, arms, range(given.seeds), pool)
    by_name = {arm.name: arm for arm in arms}
    jobs = []
    for seed in range(given.seeds):
        for clip in plan.scenes:
            missing = [
                (fill, by_name.get(fill.arm or ""))
                for fill in fills
                if (fill.arm is None or plan.adapter(by_name[fill.arm], seed, clip).exists())
                and any((fill.name, clip, seed, angle) not in measured for angle in plan.angles)
            ]
            if missing:
                jobs.append((plan, clip, seed, missing))
    for rows in share(measure, jobs, **pool):
        for at, scores in rows:
            measured.add(at, scores)


def train(plan: Plan, arms: Sequence[Arm], seeds: range, pool: dict[str, Any]) -> None:
    """Make the pairs and the adapters that are missing."""
    (plan.folder / "pairs").mkdir(parents=True, exist_ok=True)
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
    for scopes in (("dataset",), ("clip", "both")):  # `both` starts from an adapter of the first kind
        todo = [
            (plan, arm, seed, clip)
            for seed in seeds
            for arm in sorted(arms, key=lambda arm: -arm.cycles * arm.iterative)
            if arm.scope in scopes
            for clip in plan.missing(arm, seed)
        ]
        for line in share(train_arm, todo, **pool):
            print(f"[{time.time() - begun:.0f} s] {line}", flush=True)


if __name__ == "__main__":
    main()
