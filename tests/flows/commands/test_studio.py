"""`recapture studio` without a page: what it opens, the job that it starts, and the way out without viser."""

import sys

from recapture.flows.commands import studio


def test_the_command_opens_the_clip_and_gives_the_job_its_words(tmp_path, monkeypatch, recapture_command):
    from recapture.tasks.studio.viewer import Viewer

    opened = []

    def note(self, session, server, start, side):
        opened.append((session.clip, session.command(whole=True), server.get_host(), side))
        server.stop()
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "__init__", note)
    settings = ["--dataset.uri=scenes://?count=2&seed=3&frames=2&height=32&width=48", "--depth.source=given"]
    settings += [f"--store={tmp_path}/artifacts", "--execution.executor=inline"]
    recapture_command("studio", *settings, "--clip", "scene-000004", "--port", "18473", "--side", "99")
    ((clip, words, host, side),) = opened
    assert (clip, host, side) == ("scene-000004", "127.0.0.1", 99)
    assert words == ["recapture", "run", *settings, "--trajectories=[{preset: static}]"]


def test_a_job_is_a_process_of_its_own_with_the_very_words(monkeypatch, capsys):
    begun = []

    class Process:
        pid = 4711

        def __init__(self, words, **given):
            begun.append((words, given["start_new_session"]))

    monkeypatch.setattr(studio.subprocess, "Popen", Process)
    assert "4711" in studio.start_job(["recapture", "run", "--dataset.where=a b"])
    assert begun == [([sys.executable, "-m", "recapture.flows.cli", "run", "--dataset.where=a b"], True)]
    assert capsys.readouterr().out == "recapture run '--dataset.where=a b'\n"


def test_without_viser_the_way_out_is_named(monkeypatch, recapture_command):
    monkeypatch.setitem(sys.modules, "viser", None)
    answer = recapture_command("studio", "--dataset.uri", "scenes://?count=1")
    assert answer.code == 2 and "pip install 'recapture[studio]'" in answer.err
