"""Small trainings on made-up examples, and what they leave in a store."""

import torch
from safetensors.torch import load

from recapture.conf.schema import FillConfig
from recapture.conf.tune import TrainingConfig, TuneConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.models.tuning.examples import Example
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Item
from recapture.tasks.tune.encoded_pairs import EncodedPair, pack_pairs
from recapture.tasks.tune.params import PairsKey, TrainingParams
from recapture.tasks.tune.tune_stage import TuneStage

KEY, PAIRS = "a" * 32, "b" * 32
TRAINING = {"rank": 2, "batch": 2, "warm_up": 2, "validate_every": 4, "log_every": 1, "patience": 0}


def encoded(kind, seed, masks=1, **given):
    """Return a pair of 5 frames of 32x32 pixels, its channels with half of the picture hidden."""
    random = torch.Generator().manual_seed(seed)
    clean = torch.randn(16, 2, 4, 4, generator=random)
    examples = []
    for _ in range(masks):
        channels = torch.randn(20, 2, 4, 4, generator=random)
        channels[:4] = 1.0
        channels[:4, :, :, 2:] = 0.0
        examples.append(Example(clean, channels, TEXT))
    return EncodedPair(tuple(examples), kind, 10.0, **given)


TEXT = torch.randn(96, 96, generator=torch.Generator().manual_seed(1))


def store_with_pairs(root):
    """Return a new store with one artifact of pairs, one of them held out."""
    found = ArtifactStore(str(root))
    pairs = [encoded("source", 0, masks=2), encoded("source", 1), encoded("cycle", 2)]
    with found.create("pairs", PAIRS) as output:
        output.write_bytes("examples.safetensors", pack_pairs([*pairs, encoded("source", 3, held_out=True)]))
    return found


def tune_stage(store, *, workers=1, checkpoint_seconds=60.0, start=None, **training):
    config = TuneConfig(
        training=TrainingConfig(**{**TRAINING, **training}),
        workers=workers,
        checkpoint_seconds=checkpoint_seconds,
        start=start,
    )
    return TuneStage(config, FillConfig(), store.root)


def tune_item(key=KEY, steps=6, **inputs):
    params = TrainingParams("dataset", 0, steps, (PairsKey(PAIRS, judges=True),))
    return Item("dataset", "dataset@round-0", key, inputs, params)


def run_and_commit(store, stage, item=None):
    """Run a training in this process, which writes its artifact into the store; return the outcome."""
    outcomes = []
    with InlineExecutor(store.root) as executor:
        executor.run(stage, [item or tune_item()], outcomes.append, RetryPolicy())
    return outcomes[0]


def stored_adapter(store, key=KEY):
    """Return the weights of the adapter in an artifact."""
    return load(store.open("tune", key).read_bytes(FILE_NAME))


def difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
