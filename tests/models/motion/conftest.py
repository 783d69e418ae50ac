from dataclasses import replace

import pytest
import torch
from support import tiny_base as tiny

from recapture.models.motion.augment import Augmentation
from recapture.models.motion.examples import motion_examples, shown_at_start
from recapture.models.motion.objective import MotionTerm
from recapture.models.motion.sparse import Sparse
from recapture.models.motion.tune import MotionSettings
from recapture.models.tuning.objective import Objective
from recapture.models.tuning.step import Settings
from recapture.models.wan.load import load_base
from recapture.models.wan.text import encode_text

SIZE = (17, 32, 48)
MIXED = Sparse("mixed", 17, 13, "aligned")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny random Fun-InP base on disk."""
    return tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "inpaint")


@pytest.fixture()
def base(folder):
    return load_base(folder)


@pytest.fixture(scope="session")
def texts(folder):
    return encode_text(load_base(folder), "a red box", "")


@pytest.fixture(scope="session")
def reference():
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(SIZE[0], 3, 4, 6, generator=random) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=SIZE[1:], mode="bilinear")


@pytest.fixture(scope="session")
def examples(folder, texts, reference):
    """Three copies of a reference and one that is held out, with the first frame shown."""
    return motion_examples(
        load_base(folder),
        reference,
        texts.prompt,
        visible=shown_at_start("first_frame", *SIZE),
        sparse=MIXED,
        copies_trained=3,
        copies_held_out=1,
        augmentation=Augmentation("permute", 0.1, 0.1, 0.1),
        random=torch.Generator().manual_seed(1),
    )


@pytest.fixture(scope="session")
def settings():
    """Makes the settings of a short tuning."""
    training = Settings(
        steps=6,
        batch=2,
        rate=1e-2,
        weight_decay=0.5,
        warm_up=2,
        clip=1.0,
        ema=0.5,
        seed=0,
        objective=Objective("uniform", 3.0, 0.0, 0.1),
        micro_batch=None,
        gradient_checkpointing=False,
        log_every=2,
        validate_every=3,
        patience=0,
        packed_share=0.0,
    )

    def make(projections="q,k,v", sparse=MIXED, **changes):
        term = MotionTerm("signed", 0.5)
        return MotionSettings(replace(training, **changes), 4, projections, term, sparse)

    return make
