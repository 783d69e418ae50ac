"""Layers override each other in the documented order, and every mistake is one readable error."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from recapture.conf.describe import settings_of
from recapture.conf.errors import ConfigError
from recapture.conf.execution import STAGES
from recapture.conf.load import load_config, load_pretrain_config, profiles
from recapture.conf.pretrain import PretrainConfig
from recapture.conf.schema import RecaptureConfig, TrajectoryConfig
from recapture.conf.words import from_arguments, from_environment, joined, merge, split_words
from recapture.flows.cli import app
from recapture.tasks.jobs.job import preview_stages, recapture_stages
from recapture.tasks.transfer.stages import TransferStages
from recapture.tasks.tune.stages import TuneStages


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


def test_every_profile_of_wan_has_the_fast_settings():
    names = [name for name in profiles() if name.startswith("wan")]
    assert names == ["wan", "wan-1.3b", "wan-14b", "wan-2.2", "wan-few-step"]
    for fill in (load_config(name).fill for name in names):
        switches = {name: value for name, value in fill.speed if isinstance(value, bool)}
        assert switches and all(switches.values()), switches
        assert fill.speed.attention == "native" and fill.precision == fill.vae_precision == "bfloat16"
    assert load_config("wan") == load_config("wan-1.3b")


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
        (["--mask.prompt", "--x"], ["--mask.prompt=VALUE where it begins with --"]),
        (
            ["--trajectories", "[{preset: static, name: a}, {preset: up, name: A}]"],
            ["'a' and 'A'", "but for case"],
        ),
        (["--execution.resources", "{fil: {gpus: 1}}"], ["no stage is called 'fil'; did you mean 'fill'?"]),
        (["--execution.resources.fill.gpus", "1.5"], ["gpus is 1.5; only one GPU can be shared"]),
        (["--fill.shift", "nan"], ["fill.shift", "nan"]),
        (["--tune.cycle.full", ".inf"], ["tune.cycle.full", "valid number"]),
        (["--tune.cycle.full", "inf"], ["tune.cycle.full", "finite number"]),
        (["--tune.explore.angles", "[20, 20.0]"], ["20 degrees are given twice"]),
        (["--tune.explore.angles", "[.nan]"], ["tune.explore.angles", "finite number"]),
        (["--fill.steps", "yes"], ["fill.steps", "valid integer"]),
        (["--fill.steps", "-3"], ["fill.steps", "-3"]),
        (["--dataset.limit", "0"], ["dataset.limit", "greater than or equal to 1"]),
        (
            ["--fill.inverse.eta", "0.5", "--fill.inverse.solver", "cg"],
            ["eta is for transition ddim", "'cg'"],
        ),
        (["seed", "3"], ["unexpected argument 'seed'"]),
        (["--mask.objects", "[3"], ["--mask.objects", "cannot read the value"]),
    ],
)
def test_a_mistake_is_one_error_that_names_key_value_and_way_out(arguments, words):
    with pytest.raises(ConfigError) as caught:
        load_config(arguments=arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fill: {steps: yes}", ["fill.steps", "YAML reads this as true or false", "True"]),
        ("mask: {prompt: no}", ["mask.prompt", "YAML reads this as bool; quote it"]),
        ("dataset: {name: 2024}", ["dataset.name", "YAML reads this as int; quote it"]),
        ("mask: {prompt: 2024-01-02}", ["mask.prompt", "YAML reads this as date; quote it"]),
        ("fill: {steps: 3}\nseed: 1\nfill: {window: 9}", ["'fill' is set twice; keep one"]),
        ("fill: {shift: .nan}", ["fill.shift", "finite number"]),
        ("fill: {shift: .inf}", ["fill.shift", "finite number"]),
        ("trajectories: [{keyframes: [{at: 0, phi: .nan}]}]", ["trajectories.0.keyframes", "finite number"]),
    ],
)
def test_a_file_that_yaml_reads_as_something_else_is_one_error(tmp_path, text, words):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_no_text_is_one_error(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot be read .*; save it as UTF-8 text"):
        load_config(str(file))


def test_the_stages_that_can_have_resources_are_those_of_the_jobs():
    config = RecaptureConfig.model_validate(
        {"mask": {"select": {"box": [0.2, 0.2, 0.5, 0.5]}}, "fill": {"speed": {"max_loss": 0.3}}, "seeds": 2}
    )
    others = RecaptureConfig.model_validate({"caption": {"model": "rule"}, "deliver": {"size": "source"}})
    tune = TuneStages(config)
    moved = TransferStages(config)
    stages = [
        *(moved.heads(), moved.examples(), moved.tune(None), moved.measure(), moved.deliver()),
        *(moved.transfer(alone=alone) for alone in (True, False)),
        *recapture_stages(config),
        *recapture_stages(others),
        *preview_stages(config),
        tune.pairs(),
        tune.tune(None),
        tune.explore(),
    ]
    assert set(STAGES) == {stage.name for stage in stages}


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
    for layer in (
        {"arguments": ["--dataset.where", text]},
        {"arguments": [f"--dataset.where={text}"]},
        {"environment": {"RECAPTURE_DATASET__WHERE": text}},
    ):
        assert load_config(**layer).dataset.where == text
    expected = None if text == "null" else text
    assert load_config(arguments=["--mask.prompt", text]).mask.prompt == expected


TEXTS = [one.name for one in settings_of(RecaptureConfig) if re.fullmatch(r"str( \| null)?", one.type)]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_is_the_value_of_a_setting_that_holds_text(text):
    """As words, as one word through the command line's own parser, and from the environment."""
    assert len(TEXTS) > 15
    for name in (name for name in TEXTS if "[]" not in name):
        path, wanted = name.split("."), text
        if text == "null" and "null" in described(name).type:
            wanted = None
        layers = [from_arguments([f"--{name}={text}"], RecaptureConfig)]
        if not text.startswith("--"):
            layers.append(from_arguments([f"--{name}", text], RecaptureConfig))
            assert joined([f"--{name}", text, "-p", "demo"], RecaptureConfig) == [
                f"--{name}={text}",
                "-p",
                "demo",
            ]
        layers.append(from_environment({f"RECAPTURE_{'__'.join(path).upper()}": text}, RecaptureConfig))
        for layer in layers:
            for part in path:
                layer = layer[part]
            assert layer == wanted


def described(name):
    return next(one for one in settings_of(RecaptureConfig) if one.name == name)


@pytest.mark.parametrize("text", ["-m", "-p x", "-pdemo", "-d", "-x=3", "a #5", "*/b"])
def test_a_value_that_looks_like_an_option_stays_a_value(text):
    told = CliRunner().invoke(app, ["config", "--mask.prompt", text, "-p", "demo"])
    assert told.exit_code == 0, told.output
    assert yaml.safe_load(told.output)["mask"]["prompt"] == text


@pytest.mark.parametrize(("text", "value"), [("010", 10), ("-0", 0), ("12", 12), ("1e1", 10), ("null", None)])
def test_a_number_is_read_as_people_write_it(text, value):
    """YAML 1.1 reads 010 as 8 and 1e1 as text."""
    assert load_config(arguments=["--ingest.max_seconds", "1e-3"]).ingest.max_seconds == 0.001
    assert load_config(arguments=["--dataset.limit", text if value else "null"]).dataset.limit == (
        value or None
    )


def test_names_and_entries_of_mappings_know_their_types():
    words = ["--dataset.name", "2024", "--execution.resources.fill.gpus", "0.5", "--mask.objects", "[1, 2]"]
    config = load_config(arguments=words)
    assert (config.dataset.name, config.mask.objects) == ("2024", (1, 2))
    assert config.execution.resources["fill"].gpus == 0.5
    assert load_pretrain_config(arguments=["--output", "a #1"]).output == "a #1"


def test_a_setting_that_is_true_or_false_may_stand_alone():
    for words in (["--fill.speed.compile_blocks"], ["--fill.speed.compile_blocks", "--seed", "3"]):
        assert load_config(arguments=words).fill.speed.compile_blocks is True
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
