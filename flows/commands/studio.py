"""`recapture studio`: make camera moves for a clip in a browser."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from typing import Annotated

import typer

from recapture.flows.commands.settings import Dataset, Profile, config_of


def studio(
    context: typer.Context,
    profile: Profile = None,
    dataset: Dataset = None,
    clip: Annotated[str | None, typer.Option(help="The clip; the first one by default.")] = None,
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 8090,
    side: Annotated[int, typer.Option(min=16, help="Shorter side of live pictures, in pixels, about.")] = 240,
) -> None:
    """Make camera moves for a clip in a browser: live holes, key frames, export, and the job's start."""
    from recapture.conf.errors import UserError

    settings = config_of(context, profile, dataset)
    try:
        import viser
    except ImportError:
        raise UserError("the studio needs viser; install it with: pip install 'recapture[studio]'") from None
    from recapture.tasks.studio.session import StudioSession
    from recapture.tasks.studio.viewer import Viewer

    session = StudioSession.open(settings, clip, _words(profile, dataset, context.args))
    server = viser.ViserServer(host="127.0.0.1", port=port, label="recapture studio", verbose=False)
    with Viewer(session, server, start_job, side):
        typer.echo(f"studio of clip {session.clip}: http://127.0.0.1:{server.get_port()} (Ctrl-C ends it)")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            typer.echo("")


def start_job(words: list[str]) -> str:
    """Start a command as a process of its own, which outlives the studio; return what to say of it."""
    from recapture.conf.redact import without_credentials

    print(without_credentials(shlex.join(words)), flush=True)
    started = subprocess.Popen(
        [sys.executable, "-m", "recapture.flows.cli", *words[1:]],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=dict(os.environ),
    )
    return f"job started as process {started.pid}; its progress is in the terminal of the studio"


def _words(profile: str | None, dataset: str | None, settings: list[str]) -> list[str]:
    given = (("--profile", profile), ("--dataset", dataset))
    return [*(f"{name}={value}" for name, value in given if value is not None), *settings]
