"""The scarcest workers never lack items that others could have made, whatever else is slow."""

from dataclasses import replace

import pytest

from bench.simulated_pools import TimedStage, simulate_job
from recapture.tasks.engine.ray_order import Order
from recapture.tasks.engine.stage import Resources

FILL, SHARE, CPU = Resources(cpus=4, gpus=0.8), Resources(cpus=2, gpus=0.2), Resources()
NODE = {"CPU": 16.0, "GPU": 1.0}
# Seconds per clip of a job at real size: depth, render, baselines and measure had one worker beside the fill.
STAGES = [
    TimedStage("ingest", 2.5, CPU),
    TimedStage("depth", 2.2, SHARE, ("ingest",)),
    TimedStage("render", 3.6, SHARE, ("ingest", "depth")),
    TimedStage("fill", 30.0, FILL, ("ingest", "depth", "render"), reading=1.0, writing=2.0, slots=2),
    TimedStage("baselines", 34.0, SHARE, ("ingest", "depth", "render")),
    TimedStage("measure", 28.0, SHARE, ("ingest", "depth", "render", "fill", "baselines")),
    TimedStage("deliver", 7.0, CPU, ("ingest", "render", "fill")),
]


def test_the_fill_never_pauses_although_measuring_on_the_workers_that_render_is_slower():
    assert simulate_job(STAGES, [NODE], 24).pauses("fill") == 0.0


def test_with_later_stages_first_the_fill_would_pause_for_most_of_the_job():
    class LaterFirst(Order):
        def of(self, pool, pools):
            return pool.open

    ran = simulate_job(STAGES, [NODE], 24, order=LaterFirst())
    assert ran.pauses("fill") > 10 * 30.0


def test_clips_that_are_only_measured_hold_back_none_that_the_fill_needs():
    slow = [replace(stage, turn=100.0) if stage.name == "measure" else stage for stage in STAGES]
    ran = simulate_job(slow, [NODE], 60)
    assert ran.pauses("fill", warm=8) == 0.0  # by then it is known how slow measuring is
    assert ran.most_begun > 40


def test_while_enough_items_wait_for_the_fill_later_stages_come_first():
    ran = simulate_job(STAGES, [NODE], 24)
    last_render = ran.of("render")[-1].began
    assert sum(one.ended < last_render for one in ran.of("measure")) >= 6  # not put off to the end
    shared = sum(stage.turn for stage in STAGES if stage.resources == SHARE)
    assert ran.seconds == pytest.approx(
        2.5 + 24 * shared
    )  # the worker that feeds the fill never waits either


@pytest.mark.parametrize("gpus", [2, 4])
def test_no_fill_of_several_gpus_pauses(gpus):
    assert simulate_job(STAGES, [{"CPU": 16.0 * gpus, "GPU": float(gpus)}], 12 * gpus).pauses("fill") == 0.0


def test_every_worker_of_every_kind_is_set_up_from_the_start_and_waits_for_no_other():
    ran = simulate_job(STAGES, [{"CPU": 32.0, "GPU": 2.0}], 24, setup=60.0)
    first = {}
    for worker, stage, moment in ran.set_up:
        first.setdefault(worker, (stage, moment))
    assert {moment for _, moment in first.values()} == {0.0}
    fills = [worker for worker, (stage, _) in first.items() if stage == "fill"]
    assert len(fills) == 2
    # Both are ready when the first clips are: a clip needs three stages first, each set up after 60 s.
    began = {worker: min(one.began for one in ran.of("fill") if one.worker == worker) for worker in fills}
    rendered = sorted(one.ended for one in ran.of("render"))
    assert min(began.values()) == pytest.approx(rendered[0] + 1.0)  # and its reading
