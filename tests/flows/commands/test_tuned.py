"""The command that a tuning ends with does what it says, pasted into a shell as it stands."""

import shlex

from recapture.conf.load import load_config
from recapture.flows.commands.tuned import recapture_with


def test_the_printed_command_recaptures_the_dataset_as_the_adapter_was_trained():
    uri = "scenes://?count=2&seed=3"
    given = ["--dataset.uri", uri, "--fill.packing.frames", "2", "--fill.packing.positions", "time_aligned"]
    trained = load_config(arguments=given)
    program, command, *words = shlex.split(recapture_with("out puts/adapter", trained))
    assert (program, command) == ("recapture", "run")
    config = load_config(arguments=words)
    assert config.dataset.uri == uri and config.fill.adapter == "out puts/adapter"
    assert config.fill.packing == trained.fill.packing


def test_without_packing_it_names_dataset_and_adapter_alone():
    words = shlex.split(recapture_with("a", load_config(arguments=["--dataset.uri", "clips"])))
    assert words == ["recapture", "run", "--dataset.uri", "clips", "--fill.adapter", "a"]
