"""Layers override each other in the documented order, and every mistake is one readable error."""

import pytest
import yaml

from recapture.conf.describe import settings_of
from recapture.conf.errors import ConfigError
from recapture.conf.load import load_config, load_pretrain_config, profiles
from recapture.conf.pretrain import PretrainConfig
from recapture.conf.schema import RecaptureConfig, TrajectoryConfig
from recapture.conf.words import from_arguments, merge, split_words


def test_each_layer_overrides_the_one_below(tmp_path):
    profile = tmp_path / "p.yaml"
    profile.write_text(yaml.safe_dump({"fill": {"window": 17, "overlap": 2}, "seed": 1}))
    dataset = tmp_path / "d.yaml"
    dataset.write_text(yaml.safe_dump({"fill": {"overlap": 3}, "seed": 2}))
    config = load_config(
        str(profile),
        str(dataset),
        environment={"RECAPTURE_SEED": "3", "RECAPTURE_FILL__INPAINT_RADIUS": "5", "HOME": "/"},
        arguments=["--fill.inpaint-radius", "7"],
    )
    assert (config.fill.window, config.fill.overlap, config.seed, config.fill.inpaint_radius) == (
        17,
        3,
        3,
        7.0,
    )


@pytest.mark.parametrize("name", profiles())
def test_every_shipped_profile_is_valid(name):
    assert isinstance(load_config(name), RecaptureConfig)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fill.windw", "17"], ["fill.windw", "no such setting", "did you mean fill.window?"]),
        (["--fill.scheduler", "unpic"], ["fill.scheduler: 'unpic' is unknown; did you mean 'unipc'?"]),
        (
            ["--tune.placement", "cluster", "--tune.workers", "2", "--execution.executor", "inline"],
            ["tune.placement cluster needs Ray"],
        ),
        (["--fil.window", "17"], ["fil", "did you mean fill?"]),
        (["--fill.window", "18"], ["fill.window is 18", "17 or 21"]),
        (["--ingest.fov_degrees", "500"], ["ingest.fov_degrees", "500", "less than 170"]),
        (["--trajectories", "[{preset: static}, {preset: static}]"], ["two trajectories", "'static'"]),
        (["--trajectories", "[{angle_degrees: 3}]"], ["exactly one of preset, keyframes, file"]),
        (["--seed"], ["--seed has no value"]),
        (["seed", "3"], ["unexpected argument 'seed'"]),
        (["--seed", "[3"], ["--seed", "cannot read the value"]),
    ],
)
def test_a_mistake_is_one_error_that_names_key_value_and_way_out(arguments, words):
    with pytest.raises(ConfigError) as caught:
        load_config(arguments=arguments)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_environment_variable_of_ours_is_refused():
    with pytest.raises(ConfigError, match="no such setting"):
        load_config(environment={"RECAPTURE_FILL__COLOUR": "red"})


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no profile is called 'nope'.*demo"):
        load_config("nope")


def test_merge_replaces_lists_and_merges_mappings():
    assert merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}


def test_both_spellings_of_an_argument_mean_the_same():
    one, other = (from_arguments(words, RecaptureConfig) for words in (["--a.b-c=1"], ["--a.b_c", "1"]))
    assert one == other == {"a": {"b_c": 1}}


@pytest.mark.parametrize(
    "text", ["/videos/shot #1", "*", "null", "2024", "[draft] take: 2", "'a'", "true", ""]
)
def test_text_is_taken_literally_from_words_and_from_the_environment(text):
    for given in (
        {"arguments": ["--dataset.where", text]},
        {"arguments": [f"--dataset.where={text}"]},
        {"environment": {"RECAPTURE_DATASET__WHERE": text}},
    ):
        assert load_config(**given).dataset.where == text
    expected = None if text == "null" else text
    assert load_config(arguments=["--mask.prompt", text]).mask.prompt == expected


def test_names_and_entries_of_mappings_know_their_types():
    words = ["--dataset.name", "2024", "--execution.resources.fill.gpus", "0.5", "--mask.objects", "[1, 2]"]
    config = load_config(arguments=words)
    assert (config.dataset.name, config.mask.objects) == ("2024", (1, 2))
    assert config.execution.resources["fill"].gpus == 0.5
    assert load_pretrain_config(arguments=["--output", "a #1"]).output == "a #1"


def test_a_setting_that_is_true_or_false_may_stand_alone():
    for words in (["--fill.compile_blocks"], ["--fill.compile_blocks", "--seed", "3"]):
        assert load_config(arguments=words).fill.compile_blocks is True
    assert load_config(arguments=["--fill.propagate", "no"]).fill.propagate is False
    settings, others = split_words(["--fill.propagate", "bmx/*", "--seed", "3"], RecaptureConfig)
    assert (settings, others) == (["--fill.propagate=true", "--seed=3"], ["bmx/*"])


def test_every_setting_has_a_description():
    every = [*settings_of(RecaptureConfig), *settings_of(PretrainConfig)]
    assert len(every) > 200
    assert [one.name for one in every if not one.description] == []


def test_a_default_that_is_described_is_the_default():
    described = {one.name: one.default for one in settings_of(RecaptureConfig)}
    for name, value in RecaptureConfig().flat().items():
        if name in described:
            assert described[name] == value or yaml.safe_load(described[name]) == value


def test_a_trajectory_is_labelled_by_what_it_does():
    assert TrajectoryConfig(preset="orbit_left", angle_degrees=12.5).label == "orbit_left_12.5"
    assert TrajectoryConfig(preset="static", mode="bullet_time").label == "static_bullet_time"
    assert TrajectoryConfig(file="s3://b/paths/crane.json").label == "crane"


def test_flat_names_every_setting_once():
    flat = RecaptureConfig().flat()
    assert flat["fill.window"] == 49
    assert flat["trajectories.0.preset"] == "orbit_right"
    assert all(not isinstance(value, dict) or not value for value in flat.values())
