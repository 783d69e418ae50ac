"""The loop: resumed against undisturbed, split against whole, its average, its stops, its errors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import tiny_base as tiny
from support.surface import SURFACE
from support.tune_settings import settings

from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.view import SourceView
from recapture.models.training.schedule import Diverged
from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.pairs import Move, source_pairs
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.adapter_save import save_adapter
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import adapter_weights, add_lora, load_adapter, with_adapter
from recapture.models.wan.text import encode_text

EMBEDDED = Path(__file__).parents[3] / "weights" / "base"

SETTINGS = settings(
    steps=12, batch=2, rate=1e-3, warm_up=3, ema=0.8, log_every=5, validate_every=4, patience=0, seed=3
)


def trainer(folder, encoded, settings=SETTINGS, *, dtype=torch.float32, held_out=True, rank=4, **more):
    base = load_base(folder, dtype=dtype)
    add_lora(base.transformer, rank=rank)
    examples, empty = encoded
    held = examples[:1] if held_out else ()
    return LoraTrainer(base, examples[1:], settings, empty_text=empty, held_out=held, **more)


def no_log(step, values):
    """Log nothing."""


def weights_of(one):
    return adapter_weights(one._base.transformer)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(folder, encoded, dtype):
    log, logs = [], []
    whole = trainer(folder, encoded, dtype=dtype)
    assert whole.run(lambda step, values: log.append((step, dict(values))))
    state = None
    for stop in (3, 7, None):
        part = trainer(folder, encoded, dtype=dtype)
        if state is not None:
            part.restore(state)
        assert part.run(lambda step, values: logs.append((step, dict(values))), stop_at=stop) == (
            stop is None
        )
        state = part.state()
    assert same(weights_of(part), weights_of(whole)) and same(part.weights(), whole.weights())
    assert state == whole.state() and logs == log
    start = trainer(folder, encoded, dtype=dtype)
    assert not same(weights_of(start), weights_of(whole))


def test_what_is_logged(folder, encoded):
    log = []
    trainer(folder, encoded).run(lambda step, values: log.append((step, values)))
    judged = [step for step, values in log if "held_out_loss" in values]
    assert judged == [0, 4, 8, 12]
    means = {step: values for step, values in log if "loss" in values}
    assert list(means) == [5, 10, 12]
    assert means[5].keys() == {"loss", "hole_loss", "gradient_norm", "learning_rate"}
    assert means[5]["learning_rate"] == 1e-3


def test_a_state_after_any_step_may_be_continued_with_more_steps(folder, encoded):
    states = []
    first = trainer(folder, encoded, replace(SETTINGS, steps=8))
    first.run(no_log, after_step=lambda: states.append(first.state()))
    assert len(states) == 7  # after the last step the run is finished
    longer = trainer(folder, encoded, replace(SETTINGS, steps=12, log_every=1))
    longer.restore(states[3])
    assert longer.step == 4 and longer.run(no_log)
    whole = trainer(folder, encoded, replace(SETTINGS, steps=12))
    whole.run(no_log)
    assert same(weights_of(longer), weights_of(whole))


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"rate": 1e-2}, "its rate is 0.001, this run's 0.01"), ({"seed": 4}, "its seed is 3")],
)
def test_a_state_of_other_settings_is_refused(folder, encoded, change, fault):
    state = trainer(folder, encoded).state()
    with pytest.raises(ValueError, match=fault):
        trainer(folder, encoded, replace(SETTINGS, **change)).restore(state)


def test_a_state_of_another_adapter_or_base_or_a_damaged_one_is_refused(folder, encoded, tmp_path):
    state = trainer(folder, encoded).state()
    with pytest.raises(ValueError, match="another rank"):
        trainer(folder, encoded, rank=2).restore(state)
    with pytest.raises(ValueError, match="its base is"):
        trainer(tiny.write_tiny_base(tmp_path, seed=1), encoded).restore(state)
    for broken in (state[:100], b"pickle", state[:-50]):
        with pytest.raises(ValueError, match="cannot be continued"):
            trainer(folder, encoded).restore(broken)


def test_halves_of_a_batch_on_two_workers_give_the_gradient_of_the_whole(folder, encoded):
    settings = replace(SETTINGS, batch=4)
    whole, values = trainer(folder, encoded, settings).gradients(2)
    halves = []
    for rank in range(2):
        kept = []
        part = trainer(folder, encoded, settings, worker=(rank, 2), reduce=kept.extend)
        part.gradients(2)
        halves.append(kept)
    assert any(gradient.any() for gradient in whole)
    for one, first, second in zip([*whole, values], *halves):
        torch.testing.assert_close((first + second) / 2, one, rtol=1e-4, atol=1e-6)


def test_workers_judge_by_one_number(folder, encoded):
    def reduce(values):
        values[0].add_(1.0)

    alone = trainer(folder, encoded).held_out_loss()
    together = trainer(folder, encoded, worker=(0, 2), reduce=reduce).held_out_loss()
    assert together == pytest.approx(alone + 1)


def test_small_batches_and_checkpointing_change_nothing(folder, encoded):
    settings = replace(SETTINGS, batch=4)
    whole, values = trainer(folder, encoded, settings).gradients(1)
    for change in ({"micro_batch": 1}, {"micro_batch": 3}, {"gradient_checkpointing": True}):
        found, also = trainer(folder, encoded, replace(settings, **change)).gradients(1)
        for one, other in zip([*whole, values], [*found, also]):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


def test_a_step_is_adamw_with_warm_up_clipping_and_average(folder, encoded):
    settings = replace(SETTINGS, clip=0.05, weight_decay=0.1, warm_up=4, ema=0.8)
    one = trainer(folder, encoded, settings, held_out=False)
    weights = weights_of(one)
    average = {key: value.clone() for key, value in weights.items()}
    moments = {key: (torch.zeros_like(v), torch.zeros_like(v)) for key, v in weights.items()}
    for step in range(3):
        found, _ = one.gradients(step)
        norm = torch.stack([gradient.norm() for gradient in found]).norm()
        assert norm > 0.05  # clipping has something to do
        rate, decay = 1e-3 * (step + 1) / 4, min(0.8, (step + 1) / (step + 11))
        for (key, weight), gradient in zip(weights.items(), found):
            gradient = gradient * 0.05 / norm
            first, second = moments[key]
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient**2, 0.001)
            ahead = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            weight *= 1 - rate * 0.1
            weight -= rate * first / (1 - 0.9 ** (step + 1)) / ahead
            average[key] = decay * average[key] + (1 - decay) * weight
        one.run(no_log, stop_at=step + 1)
        trained = weights_of(one)
        for key, weight in weights.items():
            torch.testing.assert_close(trained[key], weight, rtol=1e-3, atol=1e-6)
            weight.copy_(trained[key])
    for key, value in one.weights().items():
        torch.testing.assert_close(value, average[key], rtol=1e-3, atol=1e-6)


def test_only_the_adapter_moves_and_it_overfits_one_pair():
    base = load_base(EMBEDDED)
    scene = sample_scene(3, variety="classic")
    cameras = source_cameras(scene, 5, 64, 64)
    shot = render_scene(scene, *cameras, torch.arange(5.0), 64, 64)
    known = torch.isfinite(shot.depth)
    source = SourceView(shot.video, shot.depth, known, *cameras, torch.arange(5))
    pair = next(source_pairs(source, float(shot.depth[0].median()), [Move(20.0, 5.0, 0.0)], SURFACE))
    text, empty = (encode_text(base, words).prompt for words in (scene.captions[0], ""))
    examples = encode_pair(base, pair, pair.visible[None], text)
    add_lora(base.transformer, rank=16)
    before = {k: v.clone() for k, v in base.transformer.state_dict().items() if ".lora_" not in k}
    to_learn = settings(steps=40, batch=1, rate=3e-3, warm_up=5, ema=0.9, validate_every=40)
    losses = []

    def log(step, values):
        losses.extend([values["held_out_loss"]] if "held_out_loss" in values else [])

    LoraTrainer(base, examples, to_learn, empty_text=empty[0], held_out=examples).run(log)
    assert losses[1] < losses[0] / 3
    after = base.transformer.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_training_stops_where_the_held_out_loss_rises_and_the_best_average_is_kept(folder, encoded):
    settings = replace(SETTINGS, steps=60, rate=0.5, clip=100.0, patience=2, validate_every=2)
    log = []
    one = trainer(folder, encoded, settings)
    assert one.run(lambda step, values: log.append((step, values)))
    judged = [(step, values["held_out_loss"]) for step, values in log if "held_out_loss" in values]
    best = min(range(len(judged)), key=lambda n: judged[n][1])
    assert one.stopped_early and one.step < 60 and best == len(judged) - 3
    assert one.best_loss == judged[best][1]
    again = trainer(folder, encoded, settings)
    again.run(no_log, stop_at=judged[best][0])
    assert same(again.weights(), one.weights())
    with with_adapter(one._base.transformer, 1.0, one.weights()):
        inside = weights_of(one)
    assert same(inside, one.weights())


def test_a_loss_that_is_no_number_keeps_the_last_good_adapter(folder, encoded):
    def poison(step):
        def reduce(gradients):
            if one.step == step:
                gradients[-1][0] = float("nan")

        return reduce

    good = trainer(folder, encoded, held_out=False)
    good.run(no_log, stop_at=6)
    one = trainer(folder, encoded, held_out=False, reduce=poison(6))
    with pytest.raises(Diverged, match=r"loss is nan at step 7; the adapter of step 6 is kept; lower"):
        one.run(no_log)
    assert one.step == 6 and same(weights_of(one), weights_of(good)) and same(one.weights(), good.weights())
    assert one.state() == good.state()
    broken = [replace(e, clean=e.clean * float("inf")) for e in encoded[0]]
    with pytest.raises(Diverged, match="at step 1"):
        trainer(folder, (broken, encoded[1]), held_out=False).run(no_log)


def test_a_tuned_adapter_is_saved_loaded_and_tuned_on(folder, encoded, tmp_path):
    first = trainer(folder, encoded)
    first.run(no_log)
    save_adapter(tmp_path, first._base.transformer, weights=first.weights())
    base = load_base(folder)
    load_adapter(base.transformer, tmp_path)
    second = LoraTrainer(base, encoded[0], SETTINGS, empty_text=encoded[1])
    assert same(second.weights(), first.weights())
    second.run(no_log, stop_at=2)
    assert not same(second.weights(), first.weights())


def test_bfloat16_bases_keep_their_dtype_and_float32_masters(folder, encoded):
    one = trainer(folder, encoded, replace(SETTINGS, rate=1e-6), dtype=torch.bfloat16, held_out=False)
    adapted = {p.dtype for k, p in one._base.transformer.named_parameters() if ".lora_" in k}
    assert adapted == {torch.bfloat16}
    one.run(no_log)
    start = trainer(folder, encoded, dtype=torch.bfloat16, held_out=False).weights()
    moved = [(one.weights()[key] - value).abs().max() for key, value in start.items() if "lora_A" in key]
    assert max(moved) > 0 and max(moved) < 1e-4  # less than bfloat16 could hold


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"worker": (0, 3), "reduce": no_log}, "multiple of the number of workers"),
        ({"worker": (0, 2)}, "need a `reduce`"),
    ],
)
def test_workers_that_cannot_share_a_batch_are_refused(folder, encoded, more, fault):
    with pytest.raises(ValueError, match=fault):
        trainer(folder, encoded, **more)


def test_nothing_to_learn_from_is_refused(folder, encoded):
    examples, empty = encoded
    for none in ([], [replace(examples[0], share=0.0)]):
        with pytest.raises(ValueError, match="no examples with a share"):
            trainer(folder, ([examples[0], *none], empty))
    base = load_base(folder)
    with pytest.raises(ValueError, match="no adapter 'default'"):
        LoraTrainer(base, examples, SETTINGS, empty_text=empty)
