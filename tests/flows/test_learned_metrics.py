"""Metrics that need weights: computed where a directory is named, refused where it is bad."""

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from recapture.conf.errors import UserError
from recapture.flows.commands.plan import forecast
from recapture.flows.jobs import surveyed
from recapture.flows.recapture_dataset import recapture

pytestmark = pytest.mark.integration


def test_a_named_model_directory_adds_its_metric_and_other_weights_redo_it(job, tmp_path):
    folder = tmp_path / "dino"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**sizes, patch_size=8)).save_pretrained(folder)
    config = job("--measure.learned.dino", str(folder), "--measure.baselines", "true")
    (metrics,) = recapture(config).metrics.values()
    for method in ("classical", "copy_source"):
        assert 0 < metrics[f"{method}/dino_consistency"] <= 1

    def made_anew():
        return [row.stage for row in forecast(*surveyed(config)) if row.new]

    assert made_anew() == []
    Dinov2Model(Dinov2Config(**sizes, patch_size=8)).save_pretrained(folder)
    assert "measure" in made_anew()


def test_a_missing_model_directory_is_named_with_its_setting(job, tmp_path):
    with pytest.raises(UserError, match=r"measure.learned.clip: .*nowhere.*name a local model"):
        recapture(job("--measure.learned.clip", str(tmp_path / "nowhere")))
