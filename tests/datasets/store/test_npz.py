"""Writing npz bytes is interrupted: what interrupts it is what arrives."""

import gc
import sys
import zipfile

import numpy as np
import pytest

from recapture.datasets.store.npz import dump_npz, load_npz


def test_a_signal_between_opening_and_writing_a_member_ends_the_job_and_says_nothing(monkeypatch):
    opened, complaints, held = zipfile.ZipFile.open, [], []

    def interrupted(archive, *given, **named):
        held.append(opened(archive, *given, **named))  # so that the member is still open
        sys.exit(143)

    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    with pytest.raises(SystemExit) as ended:
        dump_npz({"a": np.zeros(3)}, "here")
    assert ended.value.code == 143
    monkeypatch.setattr(zipfile.ZipFile, "open", opened)
    del ended
    gc.collect()
    assert complaints == []
    assert load_npz(dump_npz({"a": np.arange(3)}, "here"), "here")["a"].tolist() == [0, 1, 2]
