"""What `recapture plan` says of amounts that are to be found: nothing before depth, then the very amount."""

import json

import pytest
from support.bare_job import configure, run_bare

from recapture.flows.commands.plan import print_plan
from recapture.tasks.jobs.job import preview_stages


def planned(config, capsys):
    print_plan(config, as_json=True)
    return json.loads(capsys.readouterr().out)["amounts"]


def test_the_plan_states_an_amount_once_depth_is_known_and_the_render_finds_the_same(tmp_path, capsys):
    moves = "[{preset: orbit_left, amount: auto}, {preset: static}, {preset: left, amount: auto, BOUND}]"
    moves = moves.replace("BOUND", "bound: {hole_share: 0.0001}")
    config = configure(tmp_path, "--trajectories", moves, count=1)
    unknown = planned(config, capsys)
    assert [one["amount"] for one in unknown] == [None, None]
    assert unknown[0]["why"] == "known once the clip's depth is; preview the job"
    run_bare(config, preview_stages(config)[:3])
    found, refused = planned(config, capsys)
    assert refused["amount"] is None and "amount auto: even 0.00703" in refused["why"]
    made = run_bare(config, preview_stages(config)[:4])["render"]
    assert made[0].metrics["amount"] == pytest.approx(found["amount"])
    assert made[0].metrics["amount_hole_share"] == pytest.approx(found["hole_share"])
    assert planned(config, capsys)[0] == found
