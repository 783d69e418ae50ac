"""Adapters in a job: keys, refusals before it begins, and the exchange from clip to clip."""

from pathlib import Path

import pytest
import torch
from support import tiny_base as tiny
from support.adapters import effective_weights, original, random_pairs, state, write

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.store import model_hashes
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.jobs import planned
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.load import load_base
from recapture.tasks.clip.adapter_files import Source, revision
from recapture.tasks.clip.adapters import Adapters, Made, adapter_identity, remarks_on
from recapture.tasks.engine.planner import supposed
from recapture.tasks.jobs.job import recapture_stages
from recapture.tasks.tune.tuning import Tuning


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Tiny bases by kind."""
    root = tmp_path_factory.mktemp("bases")
    return {
        "one": tiny.write_tiny_base(root / "one"),
        "image": tiny.write_tiny_base(root / "image", image=True),
        "two": tiny.write_tiny_base(root / "two", two=True),
        "t2v": tiny.write_tiny_base(root / "t2v", "t2v"),
        "vace": tiny.write_tiny_base(root / "vace", "vace"),
    }


def lora(path, transformer, modules=("attn1",), *, seed=1, **others):
    tensors = dict(others)
    for pair in random_pairs(transformer, modules, seed=seed):
        tensors[f"diffusion_model.{original(pair.module)}.lora_A.weight"] = pair.down
        tensors[f"diffusion_model.{original(pair.module)}.lora_B.weight"] = pair.up
    return str(write(path, tensors))


def configured(base, *words):
    return load_config(arguments=["--fill.base", str(base), "--dataset.uri", "scenes://?count=1", *words])


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_exchanging_adapters_from_clip_to_clip_restores_the_base_bit_for_bit(bases, tmp_path):
    base = load_base(bases["one"], dtype=torch.bfloat16)
    bare = state(base.transformer)
    bias = {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.full((24,), 0.1)}
    norm = {"diffusion_model.blocks.1.norm3.diff": torch.full((24,), 0.1)}
    one = Source(lora(tmp_path / "one.safetensors", base.transformer, **bias), 0.7)
    two = Source(lora(tmp_path / "two.safetensors", base.transformer, ["ffn"], seed=2, **norm), 1.0)
    adapters = Adapters(base)
    adapters.use((one,))
    with_one = state(base.transformer)
    adapters.use((two,))
    adapters.use((one,))
    assert same(state(base.transformer), with_one)
    adapters.use(())
    assert same(state(base.transformer), bare)
    adapters.use((two, one))
    adapters.use((Source(one.path, 0.0),))
    assert same(state(base.transformer), bare) and adapters.report == []


def test_an_adapter_of_an_artifact_adds_up_with_one_of_a_file_and_goes_with_it(bases, tmp_path):
    base = load_base(bases["one"])
    bare = state(base.transformer)
    files = [lora(tmp_path / f"{seed}.safetensors", base.transformer, seed=seed) for seed in (1, 2)]
    store = ArtifactStore(str(tmp_path / "store"))
    with store.create("motion_tune", "a" * 32) as output:
        output.write_bytes("motion.safetensors", Path(files[1]).read_bytes())
    made = Made(store.open("motion_tune", "a" * 32), "motion.safetensors", 0.5)
    adapters, given = Adapters(base), Source(files[0], 0.7)
    adapters.use((given, Source(files[1], 0.5)))
    both = effective_weights(base.transformer)
    adapters.use((given,))
    assert not same(effective_weights(base.transformer), both)
    adapters.use((given,), made=[made])
    assert same(effective_weights(base.transformer), both)
    adapters.use(())
    assert same(state(base.transformer), bare)


def test_an_adapter_on_two_transformers_reaches_both_or_is_refused(bases, tmp_path):
    base = load_base(bases["two"])
    path = lora(tmp_path / "one.safetensors", base.transformer)
    adapters = Adapters(base)
    with pytest.raises(AdapterError, match="has two transformers; state which it is for"):
        adapters.use((Source(path, 1.0),))
    before = effective_weights(base.transformer), effective_weights(base.transformer_2)
    pair = random_pairs(base.transformer, ["attn1"])
    other = lora(tmp_path / "two.safetensors", base.transformer, seed=2)
    adapters.use((Source(path, 1.0, "high"), Source(other, 0.5, "low")))
    drawn = pair, random_pairs(load_base(bases["two"]).transformer, ["attn1"], seed=2)
    both = base.transformer, base.transformer_2
    for transformer, values, own, scale in zip(both, before, drawn, (1.0, 0.5)):
        after = effective_weights(transformer)
        for one in own:
            wanted = values[f"{one.module}.weight"] + scale * one.plain
            torch.testing.assert_close(after[f"{one.module}.weight"], wanted, rtol=1e-4, atol=2e-6)
    assert [(one["file"], one["transformer"]) for one in adapters.report] == [
        ("one.safetensors", "transformer"),
        ("two.safetensors", "transformer_2"),
    ]


def test_a_job_with_a_single_adapter_on_two_transformers_is_refused_before_it_begins(bases, tmp_path):
    path = lora(tmp_path / "a.safetensors", tiny.tiny_transformer("inpaint"))
    with pytest.raises(UserError, match=r"fill.adapter: .* two transformers; state which it is for, `tra"):
        recapture_stages(configured(bases["two"], "--fill.adapter", path))
    listed = f"[{{path: {path}, transformer: both}}]"
    recapture_stages(configured(bases["two"], "--fill.adapters", listed))


def test_a_pair_on_one_transformer_is_refused_before_a_job_begins(bases, tmp_path):
    transformer = tiny.tiny_transformer("inpaint")
    for noise in ("high", "low"):
        lora(tmp_path / f"a_{noise}_noise.safetensors", transformer)
    with pytest.raises(UserError, match="this base has only one transformer"):
        recapture_stages(configured(bases["one"], "--fill.adapter", str(tmp_path)))


def test_what_a_base_does_not_take_is_a_warning_of_the_plan_with_numbers(bases, tmp_path):
    image = tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)
    path = lora(tmp_path / "i2v.safetensors", image, ["attn2"])
    plans = supposed(planned(configured(bases["one"], "--fill.adapter", path), "recapture").plans())
    notes = {plan.stage.name: plan.warnings for plan in plans if plan.warnings}
    assert list(notes) == ["fill"]
    (note,) = notes["fill"]
    assert note.startswith(
        "i2v.safetensors: 16 of 24 tensors are applied to transformer; 8 are left out, because"
    )
    assert remarks_on(configured(bases["image"]).fill, (Source(path),)) == ()


def test_a_damaged_adapter_and_one_of_another_size_are_refused_before_a_job_begins(bases, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    large = tiny.tiny_transformer("inpaint", num_attention_heads=3)
    for path, message in (
        (str(tmp_path / "a.safetensors"), "a.safetensors cannot be read as safetensors"),
        (
            lora(tmp_path / "b.safetensors", large),
            r"lora_A.weight' of .*b.safetensors is \[\d, 36\], this base",
        ),
    ):
        with pytest.raises(UserError, match=message):
            recapture_stages(configured(bases["one"], "--fill.adapter", path))


@pytest.mark.parametrize("clips", [2, 8])
def test_an_adapter_is_read_once_per_plan_however_many_items_there_are(bases, tmp_path, monkeypatch, clips):
    path = lora(tmp_path / "a.safetensors", tiny.tiny_transformer("inpaint"))
    read = []
    actual = model_hashes.file_hash
    monkeypatch.setattr(model_hashes, "file_hash", lambda uri: read.append(uri) or actual(uri))
    uri = f"scenes://?count={clips}&frames=5&height=32&width=32"
    config = configured(bases["one"], "--dataset.uri", uri, "--fill.adapter", path)
    plans = supposed(planned(config, "recapture").plans())
    assert sum(len(plan.items) for plan in plans if plan.stage.name == "fill") == 2 * clips
    assert read.count(path) == 2  # by the check of the settings and by the plan; large files have notes


def test_the_key_knows_bytes_scale_and_transformer_but_not_the_path(bases, tmp_path):
    transformer = tiny.tiny_transformer("inpaint")
    one = lora(tmp_path / "one.safetensors", transformer)
    same_bytes = lora(tmp_path / "elsewhere/two.safetensors", transformer)
    other = lora(tmp_path / "other.safetensors", transformer, seed=2)

    def identity(*words, base="two"):
        return adapter_identity(configured(bases[base], *words).fill, "clip")

    def listed(path, **settings):
        given = {"path": path, "transformer": "both", **settings}
        entry = ", ".join(f"{name}: {value}" for name, value in given.items())
        return identity("--fill.adapters", f"[{{{entry}}}]")

    assert listed(one) == listed(same_bytes) == listed(one, scale=1.0)
    different = [listed(one), listed(other), listed(one, scale=0.5), listed(one, transformer="high")]
    assert len({str(found) for found in different}) == len(different)
    assert listed(one, scale=0) == identity() == {}
    assert identity("--fill.adapter", one, base="one") == identity(
        "--fill.adapters", f"[{{path: {same_bytes}, transformer: both, scale: 1}}]", base="one"
    )


def test_an_adapter_that_was_replaced_since_the_plan_is_not_used(bases, tmp_path):
    base = load_base(bases["one"])
    path = lora(tmp_path / "a.safetensors", base.transformer)
    planned_as = {path: revision(path)}
    Adapters(base).use((Source(path, 1.0),), planned_as)
    lora(tmp_path / "a.safetensors", base.transformer, seed=5)
    with pytest.raises(AdapterError, match="has been replaced since the job was planned"):
        Adapters(base).use((Source(path, 1.0),), planned_as)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("two", "has two transformers"),
        ("t2v", "takes 16 channels, 36 are needed"),
        ("vace", "no inpainting base"),
    ],
)
def test_training_on_a_base_that_cannot_be_tuned_is_refused_before_it_begins(bases, kind, message):
    with pytest.raises(UserError, match=message) as refused:
        Tuning(configured(bases[kind]))
    assert "choose a Wan2.1 Fun-InP base" in str(refused.value)
