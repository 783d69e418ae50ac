"""A clip's pairs: drawn from seed, clip and round alone; a poor recapture is not learned from."""

from dataclasses import replace

import pytest
import torch
from support.plans import planned
from support.tune_plans import TunePlan

from recapture.conf.fill import PackingConfig
from recapture.conf.schema import RecaptureConfig, RenderConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.models.fill.packed import Packing
from recapture.models.geometry import rasterize
from recapture.models.tuning.curriculum import Round
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.models.wan.adapter_save import pack_adapter
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import adapter_weights, add_lora
from recapture.models.wan.vae import encode_video
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.model_revision import WEIGHTS
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.jobs.source_stages import source_stages
from recapture.tasks.tune.encoded_pairs import FILE, open_pairs
from recapture.tasks.tune.explore_stage import PICTURES
from recapture.tasks.tune.source import draw_seed, draws, read_objects, read_window

ADAPTER = "a" * 32
ROUND = Round(20, 30, 4)


@pytest.fixture(scope="module")
def lifted(tmp_path_factory):
    """A store with one ingested scene of 9 frames and its depth, and an adapter that changes something."""
    root = str(tmp_path_factory.mktemp("lifted"))
    config = RecaptureConfig.model_validate(
        {
            "dataset": {"name": "small", "uri": "scenes://?count=1&seed=3&frames=9&height=48&width=64"},
            "store": root,
            "tune": {
                "pairs": {"window": 5, "moves": 2, "masks": 2},
                "cycle": {"moves": 2, "steps": 1, "pseudo_weight": 0.5},
                "explore": {"steps": 1},
                "curriculum": {"threshold": 5},
            },
        }
    )
    job = planned(config, source_stages)
    keys = {stage: job.items(stage)[0].key for stage in ("ingest", "depth")}
    with InlineExecutor(root) as executor:
        for stage in ("ingest", "depth"):
            executor.run(job.stage(stage), job.items(stage), lambda outcome: None, RetryPolicy())
    base = load_base(WEIGHTS / "base")
    add_lora(base.transformer, rank=2)
    weights = {name: value + 0.1 for name, value in adapter_weights(base.transformer).items()}
    with ArtifactStore(root).create("tune", ADAPTER) as output:
        output.write_bytes(FILE_NAME, pack_adapter(base.transformer, weights=weights))
    return config, TunePlan(config, job.clips, {job.clips[0].id: keys})


def changed(plan, **sections):
    config = plan.config
    tune = config.tune.model_copy(
        update={name: getattr(config.tune, name).model_copy(update=new) for name, new in sections.items()}
    )
    return TunePlan(config.model_copy(update={"tune": tune}), plan.clips, plan.sources)


def made(plan, stage, items):
    outcomes = []
    with InlineExecutor(plan.config.store) as executor:
        executor.run(stage, items, outcomes.append, RetryPolicy())
    assert [outcome.error for outcome in outcomes] == [""] * len(items)
    return [ArtifactStore(plan.config.store).open(stage.name, item.key) for item in items]


def pairs_of(plan, number=0, adapters=None):
    (artifact,) = made(plan, plan.stages.pairs(), plan.pairs_items(number, ROUND, adapters or {}))
    with artifact.local_path(FILE) as path:
        return artifact, open_pairs(path)


def under_adapter(plan):
    return {plan.clips[0].id: ADAPTER}


def test_a_round_has_the_configured_pairs_and_masks_and_the_last_only_judge(lifted):
    _, plan = lifted
    artifact, pairs = pairs_of(plan)
    assert [(pair.kind, pair.held_out, len(pair.examples)) for pair in pairs] == [
        ("source", False, 2),
        ("source", False, 2),
        ("source", True, 1),
    ]
    assert all(20 <= pair.angle <= 30 for pair in pairs)
    assert artifact.meta == {"round": 0, "low": 20, "high": 30}


def test_the_target_of_a_pair_is_the_clip_itself(lifted):
    config, plan = lifted
    _, pairs = pairs_of(plan)
    store, source = ArtifactStore(config.store), plan.sources[plan.clips[0].id]
    video = to_video(store.open("ingest", source["ingest"]).frames().read(0, 9, ["rgb"])["rgb"])
    vae = load_base(WEIGHTS / "base").vae
    windows = [encode_video(vae, video[start : start + 5]) for start in range(5)]
    for pair in pairs:
        assert sum(torch.equal(pair.examples[0].clean, window) for window in windows) == 1


def test_the_same_round_gives_the_same_bytes_and_another_seed_others(lifted):
    config, plan = lifted
    artifact, _ = pairs_of(plan)
    before = artifact.read_bytes(FILE)
    ArtifactStore(config.store).delete("pairs", artifact.key)
    assert pairs_of(plan)[0].read_bytes(FILE) == before
    other = TunePlan(config.model_copy(update={"seed": 1}), plan.clips, plan.sources)
    assert pairs_of(other)[0].key != artifact.key and pairs_of(other)[0].read_bytes(FILE) != before


def test_recaptures_become_cycle_and_pseudo_pairs_where_they_are_good_enough(lifted):
    _, plan = lifted
    artifact, pairs = pairs_of(plan, 1, under_adapter(plan))
    kinds = [pair.kind for pair in pairs]
    assert kinds[:3] == ["source"] * 3 and sorted(kinds[3:]) == ["cycle", "cycle", "pseudo", "pseudo"]
    assert all(0 < pair.weight <= 0.5 for pair in pairs if pair.kind == "pseudo")
    assert artifact.metrics["cycle_pairs"] == 2 and artifact.metrics["cycle_psnr"] > 5
    strict = changed(plan, curriculum={"threshold": 99.0})
    artifact, pairs = pairs_of(strict, 1, under_adapter(plan))
    assert [pair.kind for pair in pairs] == ["source"] * 3 and artifact.metrics["cycle_pairs"] == 0


def test_settings_of_the_cycle_do_not_touch_pairs_that_need_no_adapter(lifted):
    _, plan = lifted
    other = changed(plan, cycle={"steps": 3}, training={"rank": 4})

    def key(plan, adapters):
        return plan.pairs_items(1, ROUND, adapters)[0].key

    assert key(plan, {}) == key(other, {})
    assert key(plan, under_adapter(plan)) != key(other, under_adapter(plan))
    assert key(plan, under_adapter(plan)) != key(plan, {})


def test_an_adapter_changes_what_is_explored_and_the_truth_is_known_of_scenes(lifted):
    _, plan = lifted
    stage = plan.stages.explore()
    (base,) = made(plan, stage, plan.explore_items("base", 20.0, {}))
    items = [*plan.explore_items("tuned", 20.0, under_adapter(plan)), *plan.explore_items("base", 30.0, {})]
    tuned, after_tuned = made(plan, stage, items)  # by one worker
    ArtifactStore(plan.config.store).delete("explore", after_tuned.key)
    (fresh,) = made(plan, stage, items[1:])
    assert (fresh.read_npz(PICTURES)["filled"] == after_tuned.read_npz(PICTURES)["filled"]).all()
    before, after = base.read_npz(PICTURES), tuned.read_npz(PICTURES)
    assert (before["render"] == after["render"]).all() and (before["filled"] != after["filled"]).any()
    for artifact in (base, tuned):
        assert artifact.metrics.keys() == {"cycle_psnr", "hole_psnr", "truth_hole_psnr"}


def test_windows_have_the_clips_own_frames_and_objects(lifted):
    config, plan = lifted
    store, source = ArtifactStore(config.store), plan.sources[plan.clips[0].id]
    inputs = {stage: store.open(stage, key) for stage, key in source.items()}
    window = read_window(inputs, 3, 5, torch.device("cpu"))
    frames = inputs["ingest"].frames().read(3, 8, ["rgb"])["rgb"]
    assert torch.equal(window.video, to_video(frames))
    cameras = inputs["ingest"].read_npz("cameras.npz")
    assert torch.equal(window.world_to_camera, torch.from_numpy(cameras["world_to_camera"][3:8]))
    objects = read_objects(plan.clips[0], inputs["ingest"], 3, 5)
    assert objects is not None and objects.shape == (5, 48, 64) and int(objects.max()) > 0


def test_every_purpose_has_random_numbers_of_its_own():
    first = torch.rand(4, generator=draws(0, "pairs", "key", 1))
    assert torch.equal(first, torch.rand(4, generator=draws(0, "pairs", "key", 1)))
    others = [
        draw_seed(0, "pairs", "key", 2),
        draw_seed(1, "pairs", "key", 1),
        draw_seed(0, "cycle", "key", 1),
    ]
    assert len({draw_seed(0, "pairs", "key", 1), *others}) == 4
    assert all(0 <= seed < 2**31 for seed in others)


def test_pairs_of_the_source_bring_frames_from_another_camera_and_stay_what_they_were(lifted):
    _, plan = lifted
    packing = changed(plan, pairs={"packed_share": 0.5})
    plain_artifact, plain = pairs_of(plan, adapters=under_adapter(plan))
    artifact, pairs = pairs_of(packing, adapters=under_adapter(packing))
    assert artifact.key != plain_artifact.key and len(pairs) == len(plain)
    for one, before in zip(pairs, plain, strict=True):
        for example, other in zip(one.examples, before.examples, strict=True):
            assert torch.equal(example.clean, other.clean) and other.packed is None
            assert torch.equal(example.channels, other.channels)
            assert (example.packed is not None) == (one.kind == "source" and not one.held_out)
            if example.packed is not None:
                assert example.packed.shape[0] == 16 and 1 <= example.packed.shape[1] <= 2
                assert example.packed.shape[2:] == example.clean.shape[2:]
    # the share is a matter of the training, the frames of the pairs
    more = changed(plan, pairs={"packed_share": 0.25})
    assert keys_of(more.pairs_items(0, ROUND, {})) == keys_of(packing.pairs_items(0, ROUND, {}))
    tunes = {keys_of(one.tune_items(0, 5, [artifact.key], {})) for one in (plan, packing, more)}
    assert len(tunes) == 3


def test_pairs_bring_frames_where_fills_pack_them_unless_the_share_says_otherwise(lifted):
    _, plan = lifted

    def filled_with(frames: int, share: float | None) -> TunePlan:
        fill = plan.config.fill.model_copy(update={"packing": PackingConfig(frames=frames, spacing=2)})
        config = changed(plan, pairs={"packed_share": share}).config.model_copy(update={"fill": fill})
        return replace(plan, config=config)

    for frames, share, expected in ((0, None, 0.0), (3, None, 0.3), (3, 0.0, 0.0), (0, 0.5, 0.5)):
        found = filled_with(frames, share)
        assert found.stages.tune(None).packed_share == expected
        packing = found.stages.pairs().packing
        assert packing == (Packing(frames or 2, 2) if expected else None)


def test_without_packing_no_key_mentions_it(lifted):
    _, plan = lifted
    for stage, (item,) in (
        (plan.stages.pairs(), plan.pairs_items(0, ROUND, {})),
        (plan.stages.tune(None), plan.tune_items(0, 5, ["b"], {})),
    ):
        assert not {"packing", "packed_share"} & set(stage.settings(item.params, item.inputs))


def keys_of(items):
    return tuple(item.key for item in items)


def test_tuning_renders_with_the_settings_of_the_job(lifted, monkeypatch):
    """Pairs, frames packed beside them, the cycle with its propagation, and the curve."""
    _, plan = lifted
    render = RenderConfig(break_ratio=0.1, shell=1.0, max_stretch=3.0)
    config = plan.config.model_copy(update={"render": render})
    other = changed(TunePlan(config, plan.clips, plan.sources), pairs={"packed_share": 0.5})
    seen, nearest = set(), rasterize._nearest

    def note(*given):
        seen.update(one for one in given if isinstance(one, rasterize.SurfaceSettings))
        return nearest(*given)

    monkeypatch.setattr(rasterize, "_nearest", note)
    _, pairs = pairs_of(other, 1, under_adapter(plan))
    assert {pair.kind for pair in pairs} >= {"source", "cycle"}
    made(other, other.stages.explore(), other.explore_items("base", 20.0, {}))
    backs = rasterize.SurfaceSettings(0.1, 0.0, 3.0)  # of bodies, before the static cloud
    assert seen == {rasterize.SurfaceSettings(0.1, 1.0, 3.0), backs}


def test_keys_of_tuning_hold_render_settings_that_are_not_the_defaults(lifted):
    _, plan = lifted

    def keys(**render):
        config = plan.config.model_copy(update={"render": RenderConfig(**render)})
        other = TunePlan(config, plan.clips, plan.sources)
        items = [*other.pairs_items(1, ROUND, {}), *other.explore_items("base", 20.0, {})]
        return [item.key for item in items]

    assert keys() == keys(shell=0.3, chunk=3)
    assert not set(keys()) & set(keys(shell=0.4)) and not set(keys()) & set(keys(max_stretch=None))
