import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import tiny_base as tiny
from support.filler import wan_filler

from recapture.models.fill.view import RenderedView
from recapture.models.inverse.measurement import LatentMeasurement
from recapture.models.inverse.pixel_space import KnownPixels
from recapture.models.inverse.solvers import (
    SOLVERS,
    TransitionSolver,
    VelocitySolver,
    inverse_solver,
    make_solver,
)
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.sampling import Step, SteppingSolver, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents, encode_video

SCHEDULERS = ["euler", "unipc", "dpm++"]
LATENT = [name for name, recipe in SOLVERS.items() if not recipe.pixels]
VELOCITY = [name for name, recipe in SOLVERS.items() if recipe.transition == "velocity"]
# end at the measurement where the mask is 1, with these options
EXACT: dict[str, dict[str, Any]] = {
    name: {} for name in ("replacement", "cg", "wiener", "ddnm", "dds", "flowchef", "blended", "repaint")
}
EXACT |= {"nvs": {"share": 1.0}, "proximal": {"gamma": 1e9}}


def run(base, clip, solver=None, *, scheduler="euler", steps=5, guidance=3.0, **more):
    return sample(
        base,
        condition(base, *clip),
        encode_text(base, "a red ball", "wall"),
        scheduler=make_scheduler(scheduler, 3.0),
        steps=steps,
        generator=torch.Generator().manual_seed(11),
        guidance_scale=guidance,
        solver=solver,
        **more,
    )


@pytest.fixture(scope="module")
def bf16(tmp_path_factory):
    return load_base(tiny.write_tiny_base(tmp_path_factory.mktemp("base"), "t2v"), dtype=torch.bfloat16)


def pixels_of(base, clip):
    return KnownPixels(base.vae, clip[0], clip[1])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_nothing_known_every_solver_samples_plainly(bases, bf16, clip, measure, scheduler):
    """Every solver with every scheduler, the two precisions in turn."""
    plain = [run(base, clip, scheduler=scheduler, steps=3) for base in (bases["t2v"], bf16)]
    for number, name in enumerate(SOLVERS):
        turn = (number + SCHEDULERS.index(scheduler)) % 2
        base = (bases["t2v"], bf16)[turn]
        solver = make_solver(name, measure("zero"), pixels=pixels_of(base, clip))
        assert torch.equal(run(base, clip, solver, scheduler=scheduler, steps=3), plain[turn]), name


@pytest.mark.parametrize("name", SOLVERS)
def test_where_nothing_is_known_the_step_is_the_plain_one(bases, clip, measure, name):
    base, measurement = bases["t2v"], measure("binary")
    solver = make_solver(name, measurement, pixels=pixels_of(base, clip), start=0.0)
    if SOLVERS[name].pixels:  # here all latents may move: they do not where no pixel is known
        solver = replace(solver, consistency=lambda clean, step: torch.zeros_like(clean))
    latents, velocity = torch.randn(2, *measurement.mask.shape, generator=torch.Generator().manual_seed(1))
    hole, step = measurement.mask == 0, Step(1, 4, 0.75, 0.5)
    corrected = solver.correct(latents, velocity, step)
    assert torch.equal(corrected[hole], velocity[hole])
    noisy = SOLVERS[name].eta > 0 or SOLVERS[name].transition == "flowdps"
    if isinstance(solver, TransitionSolver) and not noisy:
        found = solver.advance(latents, velocity, corrected, step)
        assert torch.equal(found[hole], (latents - 0.25 * velocity)[hole])


@pytest.mark.parametrize("name", EXACT)
def test_all_known_ends_at_the_measurement(bases, clip, measure, name):
    """The solvers that leave the steps to a scheduler take them in turn."""
    measurement = measure("one")
    scheduler = SCHEDULERS[list(EXACT).index(name) % 3] if name in VELOCITY else "euler"
    found = run(bases["t2v"], clip, make_solver(name, measurement, **EXACT[name]), scheduler=scheduler)
    assert (found - measurement.latents).abs().max() <= 1e-5


@pytest.mark.parametrize("layout", ["t2v", "inpaint", "vace", "wan22"])
@pytest.mark.parametrize("transition", ["velocity", "ddim"])
def test_every_layout_keeps_what_is_known_and_makes_the_rest(bases, clip, measure, layout, transition):
    measurement = measure("binary")
    eta = 1.0 if transition == "ddim" else 0.0
    solver = make_solver("replacement", measurement, transition=transition, eta=eta)
    found, plain = run(bases[layout], clip, solver), run(bases[layout], clip)
    inside = measurement.mask == 1
    assert (found - measurement.latents)[inside].abs().max() <= 1e-5
    assert found.isfinite().all() and found[~inside].std() > 0.1
    assert (found - plain)[~inside].abs().max() > 1e-4  # through the transformer alone


def test_latent_solvers_do_not_touch_the_vae(bases, clip, measure, monkeypatch):
    base, calls = bases["inpaint"], []
    given, text = condition(base, *clip), encode_text(base, "a red ball", "wall")
    for method in ("encode", "decode"):
        monkeypatch.setattr(base.vae, method, lambda *a, **k: calls.append(1))
    for name in LATENT:
        found = sample(
            base,
            given,
            text,
            scheduler=make_scheduler("euler", 3.0),
            steps=2,
            generator=torch.Generator().manual_seed(1),
            solver=make_solver(name, measure("soft"), start=0.0),
        )
        assert found.isfinite().all() and not calls, name


@pytest.mark.parametrize("name", ["vision_xl", "psld"])
def test_pixel_solvers_run_the_vae_once_each_way_a_step(bases, clip, measure, name, monkeypatch):
    base, calls = bases["t2v"], []
    for method in ("encode", "decode"):
        real = getattr(base.vae, method)
        monkeypatch.setattr(
            base.vae, method, lambda *a, real=real, m=method, **k: calls.append(m) or real(*a, **k)
        )
    found = run(base, clip, make_solver(name, measure("soft"), pixels=pixels_of(base, clip)), steps=3)
    assert calls == ["decode", "encode"] * 3
    assert found.isfinite().all() and not found.requires_grad
    assert (found - run(base, clip, steps=3)).abs().max() > 1e-4


def test_the_velocity_transition_follows_the_line_from_the_noise_to_the_measurement(bases, clip, measure):
    measurement, seen = measure("one"), []
    solver = make_solver("replacement", measurement)

    class Watched:
        def correct(self, latents, velocity, step):
            seen.append((latents, step.sigma))
            return solver.correct(latents, velocity, step)

    start = torch.randn(measurement.mask.shape, generator=torch.Generator().manual_seed(2))
    run(bases["t2v"], clip, Watched(), steps=8, latents=start)
    assert len(seen) == 8
    for latents, sigma in seen:
        expected = (1 - sigma) * measurement.latents + sigma * start
        assert (latents - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("steps", [1, 6])
def test_ddim_without_noise_equals_the_schedulers_own_steps(bases, clip, measure, steps):
    measurement, moves = measure("soft"), []
    solver = make_solver("replacement", measurement, transition="ddim", eta=0.0)

    class Moved:
        """The twin: a velocity with which the scheduler's own step adds (1 - sigma') delta."""

        def correct(self, latents, velocity, step):
            move = measurement.mask * (measurement.latents - (latents - step.sigma * velocity))
            moves.append(move)
            return velocity + (1 - step.next_sigma) * move / (step.next_sigma - step.sigma)

    found = run(bases["t2v"], clip, solver, steps=steps)
    assert (found - run(bases["t2v"], clip, Moved(), steps=steps)).abs().max() <= 1e-4
    assert len(moves) == steps


@pytest.mark.parametrize("name", ["ddnm", "dds", "flowdps", "langevin", "blended", "repaint"])
def test_the_solvers_noise_is_its_seeds_and_the_samplers_is_left_alone(bases, clip, measure, name):
    base, measurement = bases["t2v"], measure("soft")
    first = run(base, clip, make_solver(name, measurement, seed=1))
    torch.rand(5)
    assert torch.equal(run(base, clip, make_solver(name, measurement, seed=1)), first)
    assert not torch.equal(run(base, clip, make_solver(name, measurement, seed=2)), first)


def test_it_acts_on_a_window_of_the_steps(measure):
    measurement = measure("one")
    velocity = latents = torch.ones_like(measurement.mask)
    for make in (
        lambda: make_solver("replacement", measurement, start=0.2, stop=0.8),
        lambda: make_solver("repaint", measurement, start=0.2, stop=0.8, repeats=3),
    ):
        solver = make()
        acting = [i for i in range(10) if solver.acts(Step(i, 10, 0.5, 0.4))]
        assert acting == [2, 3, 4, 5, 6, 7]
    outside = Step(8, 10, 0.5, 0.4)
    assert solver.visits(outside) == 1 and solver.visits(Step(3, 10, 0.5, 0.4)) == 3
    assert torch.allclose(solver.advance(latents, velocity, velocity, outside), latents * 0.9)
    assert VelocitySolver(solver.consistency, 0.2, 0.8).correct(latents, velocity, outside) is velocity


def test_a_step_is_repeated_from_where_going_back_leads(bases, clip, measure):
    seen = []

    class Counting:
        def visits(self, step):
            return 3 if step.index == 1 else 1

        def correct(self, latents, velocity, step):
            seen.append((step.index, float(latents.flatten()[0])))
            return velocity

        def advance(self, latents, velocity, corrected, step):
            assert corrected is velocity
            return torch.full_like(latents, len(seen))

        def go_back(self, latents, step):
            assert (latents == len(seen)).all() and step.index == 1
            return latents + 0.5

    assert isinstance(Counting(), SteppingSolver)
    found = run(bases["t2v"], clip, Counting(), steps=3)
    assert [index for index, _ in seen] == [0, 1, 1, 1, 2]
    assert [value for _, value in seen[1:]] == [1, 2.5, 3.5, 4]
    assert (found == 5).all()


def test_low_weights_can_be_cut_off(bases, clip, measure):
    base, measurement = bases["t2v"], measure("soft")
    cut = replace(measurement, mask=torch.where(measurement.mask < 0.5, 0.0, measurement.mask))
    found = run(base, clip, make_solver("replacement", measurement, mask_floor=0.5))
    assert torch.equal(found, run(base, clip, make_solver("replacement", cut)))
    assert not torch.equal(found, run(base, clip, make_solver("replacement", measurement)))


def test_options_reach_the_consistency(measure):
    measurement = measure("soft")
    clean, step = torch.zeros_like(measurement.mask), Step(1, 4, 0.5, 0.2)
    solver = make_solver("proximal", measurement, gamma=2.0)
    weight = 2 * measurement.mask**2
    expected = weight / (1 + weight) * measurement.latents
    assert torch.allclose(solver.consistency(clean, step), expected)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("magic", {}, "there is no solver 'magic'; use one of renoised, replacement"),
        ("proximal", {"gama": 2}, "'proximal' has no option gama; it takes gamma"),
        ("langevin", {"generator": None}, "no option generator; it takes noise_level"),
        ("blended", {"gamma": 2}, "'blended' has no option gamma"),
        ("replacement", {"start": 0.6, "stop": 0.5}, "start 0.6"),
        ("replacement", {"transition": "ddim", "eta": 1.5}, "eta 1.5"),
        ("replacement", {"eta": 0.5}, "takes no eta"),
        ("replacement", {"repeats": 2}, "takes no eta or no repeats"),
        ("replacement", {"transition": "blended"}, "no transition 'blended'"),
        ("replacement", {"transition": "jump"}, "no transition 'jump'"),
        ("repaint", {"transition": "ddim"}, "no transition 'ddim'"),
        ("vision_xl", {}, "give it `pixels`"),
    ],
)
def test_wrong_settings_are_refused(measure, name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_solver(name, measure("soft"), **settings)


def test_wrong_shapes_and_schedulers_are_refused(bases, clip, measure):
    base = bases["t2v"]
    small = measure("soft", shape=(1, 16, 2, 4, 6))
    for name in LATENT:
        with pytest.raises(ValueError, match="very window that is sampled"):
            run(base, clip, make_solver(name, small, start=0.0))
    for scheduler in ("unipc", "dpm++"):
        with pytest.raises(ValueError, match="use the 'euler' scheduler"):
            run(base, clip, make_solver("dds", measure("soft")), scheduler=scheduler)
    pixels = KnownPixels(base.vae, clip[0][:5], clip[1][:5])
    for name in ("vision_xl", "psld"):
        with pytest.raises(ValueError, match="the latents decode to"):
            run(base, clip, make_solver(name, measure("soft"), pixels=pixels))
    with pytest.raises(ValueError, match="fill_variance"):
        bare = LatentMeasurement(measure("soft").latents, measure("soft").mask)
        run(base, clip, make_solver("wiener", bare))


def view_of(video, visible):
    ones, frames = torch.ones(visible.shape), len(video)
    eye3, eye4 = torch.eye(3).expand(frames, 3, 3), torch.eye(4).expand(frames, 4, 4)
    return RenderedView(torch.where(visible[:, None], video, 0.0), visible, ones, ones, eye3, eye4)


@pytest.mark.parametrize(
    ("kind", "solver"), [("leak_ratio", "replacement"), ("fill_variance", "wiener"), ("min_pool", "dds")]
)
def test_a_filler_of_a_text_to_video_base_holds_on_to_the_clip(bases, clip, kind, solver, caplog):
    base, (video, visible) = bases["t2v"], clip
    make = inverse_solver(kind=kind, channel_mean=False, solver=solver, fill="grey", probes=2)
    filler = wan_filler(base, steps=4, scheduler="euler", window=5, overlap=1, make_solver=make)
    with caplog.at_level(logging.WARNING):
        found = filler.fill_both(view_of(video, visible), caption="a ball", seed=0).unpasted
    assert not caplog.records
    known = torch.ones_like(visible)
    same = filler.fill_both(view_of(video, known), caption="a ball", seed=0).unpasted
    expected = decode_latents(base.vae, encode_video(base.vae, video[:5])).detach()
    assert (same[:4] - expected[:4]).abs().max() <= 1e-4
    assert not torch.equal(found, same)


def test_a_window_with_nothing_known_is_generated_plainly_and_said_so_once(bases, clip, caplog):
    base, (video, visible) = bases["inpaint"], clip
    view = view_of(video, torch.zeros_like(visible))
    make = inverse_solver(kind="leak_ratio", channel_mean=False, solver="replacement", probes=1)
    filler = wan_filler(base, steps=3, make_solver=make)
    with caplog.at_level(logging.WARNING):
        found = filler.fill_both(view, caption="a ball", seed=0).unpasted
    assert [record.getMessage() for record in caplog.records] == [
        "inverse: nothing of this window of 9 frames is known; plain generation"
    ]
    plain = replace(filler, make_solver=None).fill_both(view, caption="a ball", seed=0).unpasted
    assert torch.equal(found, plain)


def test_the_motion_solver_acts_in_the_first_fifth_and_raises_the_agreement_of_motion(bases, clip, measure):
    """The changes between latent frames come nearer to the reference's; later steps are plain."""
    measurement = measure("one")
    solver = make_solver("motion", measurement, rate=0.4, anchor=0.0)
    assert isinstance(solver, VelocitySolver)
    assert [solver.acts(Step(n, 10, 0.5, 0.4)) for n in range(10)] == [True, True, *[False] * 8]

    def agreement(latents):
        made, wanted = (one.diff(dim=2).flatten() for one in (latents, measurement.latents))
        return float(torch.nn.functional.cosine_similarity(made, wanted, dim=0))

    plain = run(bases["inpaint"], clip, steps=10)
    early = run(bases["inpaint"], clip, solver, steps=10)
    always = run(bases["inpaint"], clip, make_solver("motion", measurement, rate=0.4, stop=1.0), steps=10)
    assert agreement(plain) + 0.01 < agreement(early) < agreement(always)
    with pytest.raises(ValueError, match="has no option gamma; it takes rate, anchor"):
        make_solver("motion", measurement, gamma=1.0)
