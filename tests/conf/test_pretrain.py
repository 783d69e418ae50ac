"""Layers of the pre-training configuration."""

import pytest

from recapture.conf.errors import ConfigError
from recapture.conf.load import load_pretrain_config
from recapture.conf.pretrain import PretrainConfig


def test_file_environment_and_words_go_over_the_defaults_key_by_key(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("vae: {steps: 10, rate: 0.01}\nseed: 4\nstate: a\n")
    config = load_pretrain_config(
        str(file),
        environment={"RECAPTURE_STATE": "b", "RECAPTURE_DATASET__URI": "of a job", "RECAPTURE_SEED": "9"},
        arguments=["--vae.steps", "20", "--gates.enforce=false"],
    )
    default = PretrainConfig()
    assert (config.vae.steps, config.vae.rate, config.vae.ema) == (20, 0.01, default.vae.ema)
    assert (config.seed, config.state, config.gates.enforce) == (4, "b", False)
    assert config.refine == default.refine
    assert load_pretrain_config() == default


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vae.step", "3"], r"vae.step: no such setting; did you mean vae.steps\?"),
        (["--gates.enforced", "false"], r"did you mean gates.enforce\?"),
        (["--side", "7"], r"side: .*32 \(got 7\)"),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_known_one(words, message):
    with pytest.raises(ConfigError, match=message):
        load_pretrain_config(arguments=words)


def test_a_missing_or_shapeless_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"settings file 'no.yaml' does not exist"):
        load_pretrain_config("no.yaml")
    file = tmp_path / "list.yaml"
    file.write_text("- a\n")
    with pytest.raises(ConfigError, match="expected sections at the top level, found list"):
        load_pretrain_config(str(file))
