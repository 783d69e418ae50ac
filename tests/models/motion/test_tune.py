"""Short tunings of a tiny base: what is trained, what stays, when it stops."""

import json
from dataclasses import replace

import pytest
import torch

from recapture.models.motion.examples import MotionExamples
from recapture.models.motion.objective import MotionTerm
from recapture.models.motion.sparse import Sparse
from recapture.models.motion.tune import check_converging, judged, motion_trainer, tune_motion
from recapture.models.training.schedule import Diverged
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.adapter_file import NOTES
from recapture.models.wan.fingerprint import fingerprint
from recapture.models.wan.head_masks import head_masks, heads_of_note, self_attention
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import adapter_parameters, adapter_weights, add_lora

# the second block has no temporal head at all
HEADS = torch.tensor([[False, True], [False, False]])


def quiet(step, values):
    pass


def test_masked_weights_are_exactly_zero_after_training_and_the_others_moved(base, examples, texts, settings):
    """With weight decay, in all projections, and with a layer whose group is empty."""
    made = tune_motion(
        base,
        examples,
        settings("q,k,v,o"),
        empty_text=texts.negative[0],
        heads=HEADS,
        notes={"reference": "dog"},
    )
    masks = head_masks(base.transformer, HEADS, "temporal")
    for weights in (made.weights, adapter_weights(base.transformer, "temporal")):
        assert weights.keys() == masks.keys()
        for key, free in masks.items():
            assert not weights[key][~free].any(), key
    ups = {key: value for key, value in made.weights.items() if "lora_B" in key and "to_out" not in key}
    assert all(value.any() == ("blocks.0" in key) for key, value in ups.items())
    assert made.steps == 6 and not made.stopped_early
    notes = notes_of(made.adapter)
    assert notes["reference"] == "dog" and notes["base"] == fingerprint(base.transformer)
    assert torch.equal(heads_of_note(notes["heads"]), HEADS)
    assert [step for step, values in made.curve if "held_out_loss" in values] == [0, 3, 6]


def notes_of(content):
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"][NOTES])


def test_a_first_adapter_stays_as_it_is_and_is_in_use_while_a_second_is_trained(
    base, examples, texts, settings
):
    empty = texts.negative[0]
    first = motion_trainer(
        base, examples, settings(), empty_text=empty, heads=~HEADS, name="spatial", beside=None
    )
    first.run(quiet)
    spatial = adapter_weights(base.transformer, "spatial")
    gradients = {}
    for scale in (0.0, 1.0):
        if scale:
            base.transformer.delete_adapters("temporal")
        trainer = motion_trainer(
            base, examples, settings(), empty_text=empty, heads=HEADS, beside={"spatial": scale}
        )
        gradients[scale], _ = trainer.gradients(0)
    assert any((a - b).abs().max() > 1e-7 for a, b in zip(gradients[0.0], gradients[1.0]))
    trainer.run(quiet)
    after = adapter_weights(base.transformer, "spatial")
    assert all(torch.equal(spatial[key], after[key]) for key in spatial)
    assert base.transformer.active_adapters() == ["spatial", "temporal"]


def test_a_tuning_that_was_interrupted_makes_the_same_adapter(folder, examples, texts, settings):
    """The subsets of latent frames are drawn from seed and step alone."""

    def trainer(**changes):
        given = settings(sparse=Sparse("mixed", 17, 9, "aligned"), **changes)
        return motion_trainer(load_base(folder), examples, given, empty_text=texts.negative[0], heads=HEADS)

    whole, broken, resumed = trainer(), trainer(), trainer()
    whole.run(quiet)
    broken.run(quiet, stop_at=3)
    resumed.restore(broken.state())
    resumed.run(quiet)
    expected, found = whole.weights(), resumed.weights()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    other = motion_trainer(load_base(folder), examples, settings(), empty_text=texts.negative[0], heads=HEADS)
    with pytest.raises(ValueError, match="sparse sampling"):
        other.restore(broken.state())


def test_the_held_out_criterion_knows_the_motion_and_stops_a_tuning(base, examples, texts, settings):
    term = MotionTerm("signed", 0.5)
    with_motion, without = (
        judged(base, examples.held_out, one, 1) for one in (term, MotionTerm("none", 0.0))
    )
    assert 0 < with_motion - without <= 1.0  # half of 1 - cos
    made = tune_motion(
        base,
        examples,
        settings(steps=40, rate=1e-12, validate_every=2, patience=2),
        empty_text=texts.negative[0],
    )
    assert made.stopped_early and made.steps < 40


def test_a_loss_that_grows_or_is_not_finite_is_one_clear_error(base, examples, texts, settings):
    with pytest.raises(Diverged, match=r"lower\s+the learning rate"):
        tune_motion(
            base,
            examples,
            settings(steps=30, rate=1e6, warm_up=1, log_every=1),
            empty_text=texts.negative[0],
        )
    check_converging([(0, {"loss": 1.0}), (5, {"loss": 3.9})], 1e-3)
    with pytest.raises(Diverged, match=r"held out loss went from 0\.5 to 3 by step 8"):
        check_converging([(0, {"held_out_loss": 0.5}), (4, {"loss": 9.0}), (8, {"held_out_loss": 3.0})], 1e-3)


def test_a_mask_needs_an_adapter_that_is_zero_outside(base, examples, texts, settings):
    add_lora(base.transformer, rank=2, targets=self_attention("q,k,v,o"), name="temporal")
    with torch.no_grad():
        for parameter in adapter_parameters(base.transformer, "temporal").values():
            parameter.fill_(0.1)
    with pytest.raises(ValueError, match="is not 0 outside the chosen heads"):
        LoraTrainer(
            base,
            examples.training,
            settings().training,
            empty_text=texts.negative[0],
            name="temporal",
            free=head_masks(base.transformer, HEADS, "temporal"),
        )


def test_single_frames_with_nothing_known_train_an_adapter_without_a_motion_term(
    base, examples, texts, settings
):
    """As the spatial adapter is tuned."""
    stills = [
        replace(one, clean=one.clean[:, t : t + 1], channels=torch.zeros_like(one.channels[:, t : t + 1]))
        for t, one in enumerate(examples.training)
    ]
    made = tune_motion(
        base,
        MotionExamples(tuple(stills), ()),
        settings(sparse=Sparse("full", 5, 5, "native")),
        empty_text=texts.negative[0],
        heads=~HEADS,
        name="spatial",
    )
    losses = [values["loss"] for _, values in made.curve]
    assert losses == [values["hole_loss"] for _, values in made.curve] and losses[0] > 0
    assert any(value.any() for key, value in made.weights.items() if "lora_B" in key)
