"""A secret planted in every setting that may hold a URL is in nothing that anybody prints or writes."""

import logging
import sqlite3
import traceback
from fractions import Fraction
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from typer.testing import CliRunner

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.conf.redact import remember_credentials, without_credentials
from recapture.datasets.media.video import write_video
from recapture.flows.cli import app
from recapture.flows.commands.doctor import run_checks
from recapture.flows.recapture_dataset import recapture
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.jobs.fill import FillStage

SECRET = "hunter2-c4t/8b1e@77"  # with characters that must be encoded in a URL
ENCODED = quote(SECRET, safe="")
WHERE = f"memory://me:{ENCODED}@place"


def search(places):
    """Return the names of the texts that hold the secret, in any of its forms."""
    return [name for name, text in places.items() if SECRET in text or ENCODED in text]


def prefect_text():
    """Return all that Prefect's server has stored."""
    database = PREFECT_API_DATABASE_CONNECTION_URL.value() or ""
    assert database.startswith("sqlite")
    return "\n".join(sqlite3.connect(database.partition("///")[2]).iterdump())


def stored(url):
    """Return path -> content of everything below a URL of this process's memory."""
    filesystem, root = fsspec.core.url_to_fs(url)
    return {
        path.rpartition("@")[2]: filesystem.cat_file(path).decode("latin-1") for path in filesystem.find(root)
    }


@pytest.fixture
def settings(tmp_path):
    """Words that name every place by a URL with a password; two clips are listed there by an index."""
    for name, grey in (("one", 99), ("two", 199)):
        frame = np.full((32, 32, 3), grey, np.uint8)
        write_video(str(tmp_path / f"{name}.mp4"), [frame] * 5, fps=Fraction(12))
    np.savez(tmp_path / "depth.npz", depth=np.full((5, 32, 32), 3.0, np.float32))
    memory = fsspec.filesystem("memory")
    for name in ("one.mp4", "two.mp4", "depth.npz"):
        memory.pipe_file(f"/me:{ENCODED}@place/set/{name}", (tmp_path / name).read_bytes())
    rows = [f"{name},{WHERE}/set/{name}.mp4,{WHERE}/set/depth.npz" for name in ("one", "two")]
    rows.append(f"far,http://me:{ENCODED}@127.0.0.1:9/b.mp4?token={ENCODED},")
    memory.pipe_file(f"/me:{ENCODED}@place/set/index.csv", "\n".join(["id,uri,depth_uri", *rows]).encode())
    yield [
        *("--dataset.name", "secret", "--dataset.uri", f"{WHERE}/set/index.csv", "--dataset.kind", "index"),
        *("--store", f"{WHERE}/store", "--outputs", f"{WHERE}/outputs", "--state", f"{tmp_path}/state"),
        *("--tracking.uri", f"http://me:{ENCODED}@127.0.0.1:9?token={ENCODED}"),
        *("--execution.executor", "inline", "--execution.ray_address", f"ray://me:{ENCODED}@127.0.0.1:9"),
        *("--execution.attempts", "1", "--execution.max_failure_share", "1", "--depth.source", "given"),
        *("--fill.method", "classical", "--measure.baselines", "false", "--deliver.side_by_side", "false"),
        *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
    ]
    memory.rm("/", recursive=True)


def said(*words):
    """Return what a command prints on both streams, with the traceback of an error that it did not expect."""
    result = CliRunner().invoke(app, list(words))
    error = (
        without_credentials("".join(traceback.format_exception(*result.exc_info))) if result.exception else ""
    )
    return result.output + error


@pytest.mark.integration
def test_no_job_and_no_command_tells_the_password_of_any_url(
    prefect_server, settings, monkeypatch, caplog, capfd
):
    original = FillStage.run

    def fail(self, item, inputs, output):
        if item.clip_id == "one":
            raise RuntimeError(f"GET {item.params.clip.uri}?sig={ENCODED} by {{'token': '{SECRET}'}} failed")
        return original(self, item, inputs, output)

    monkeypatch.setattr(FillStage, "run", fail)
    with caplog.at_level(logging.DEBUG):
        summary = recapture(load_config(arguments=settings))
    assert (summary.delivered, len(summary.failures)) == (1, 2)
    run_checks(load_config(arguments=settings))
    places = {"job": "".join(capfd.readouterr()), "log": caplog.text, "prefect": prefect_text()}
    for command in (
        ["plan"],
        ["plan", "--json"],
        ["status"],
        ["status", "--json"],
        ["quarantine", "ls"],
        ["quarantine", "show", "*"],
        ["quarantine", "ls", "--json"],
        ["gc", "--dry-run", "--older-than-hours", "0"],
        ["gc", "--older-than-hours", "0", "--json", "--dry-run"],
        ["config"],
        ["manifest", "verify"],
        ["doctor", "--json"],
    ):
        places[" ".join(command)] = said(*command, *settings)
    places |= stored(f"{WHERE}/store") | stored(f"{WHERE}/outputs")
    assert search(places) == []
    assert "secret" in places["plan"] and "RuntimeError: GET" in places["quarantine ls"]
    assert "***" in places["quarantine ls"]
    assert any("quarantine" in path for path in places) and any("manifests" in path for path in places)


@pytest.mark.integration
@pytest.mark.parametrize("setting", ["store", "outputs"])
def test_a_place_that_cannot_be_written_is_named_without_its_password(
    prefect_server, settings, setting, caplog, capfd
):
    url = f"ftp://me:{ENCODED}@127.0.0.1:9/{setting}"
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError) as error:
        recapture(load_config(arguments=[*settings, f"--{setting}", url]))
    assert str(error.value).startswith(f"{setting} ftp://127.0.0.1:9/{setting} cannot be written: ")
    trace = "".join(traceback.format_exception(error.value))
    chain = {
        "trace": trace,
        "log": caplog.text,
        "said": "".join(capfd.readouterr()),
        "prefect": prefect_text(),
    }
    assert search(chain) == []


@pytest.mark.parametrize(
    "setting",
    ["dataset.uri", "mask.uri", "mask.prompts", "trajectories", "fill.adapter", "fill.base", "depth.model"],
)
def test_an_input_that_cannot_be_read_is_named_without_its_password(settings, setting):
    url = f"ftp://me:{ENCODED}@127.0.0.1:9/x.npz"
    value = f"[{{file: '{url}', file_format: opencv}}]" if setting == "trajectories" else url
    printed = said("plan", *settings, f"--{setting}", value)
    assert "127.0.0.1" in printed
    assert search({"plan": printed}) == []


def test_the_message_of_a_place_that_cannot_be_written_has_a_clean_chain():
    with pytest.raises(UserError) as error:
        check_writable("store", f"ftp://me:{ENCODED}@127.0.0.1:9/artifacts")
    assert search({"trace": "".join(traceback.format_exception(error.value))}) == []


@pytest.mark.parametrize(
    "text",
    [
        f"s3://bucket/a?X-Amz-Security-Token={ENCODED}&x=1",
        f"https://host/a?key={ENCODED}",
        f"S3FileSystem(key='AKIA', secret='{ENCODED}', token=\"{ENCODED}\")",
        f'{{"account_key": "{ENCODED}"}}',
        f"--storage.token={ENCODED}",
        f"password: {ENCODED}",
        f"Authorization: Bearer {ENCODED.replace('%', '')}",
        f"530 Login incorrect for me with {SECRET}",
    ],
)
def test_tokens_and_keys_are_removed_from_options_too(text):
    remember_credentials(f"ftp://me:{ENCODED}@host/x")
    shown = without_credentials(text)
    assert search({"text": shown}) == [] and ENCODED.replace("%", "") not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "tokenizer: weights/base/tokenizer",
        "max_tokens=512000",
        "stage 'fill' has no artifact 0123456789abcdef; key=0123456789abcdef",
        "clip 'a:b' at orbit@20",
        "the signature of the file differs",
    ],
)
def test_what_only_looks_like_a_secret_stays(text):
    assert without_credentials(text) == text
