"""What a clip depends on, as questions about folders: while the answers stay the same, so does the clip.

A question is a folder and the beginning of names in it. Its answer is the names, sizes and times (or etags)
of the entries that are found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.natural_order import natural
from recapture.datasets.media.pictures import FRAME_SUFFIXES
from recapture.datasets.readers.folders import Entry, Folders, fold

_BETWEEN = "\0"  # in no path


class Asked:
    """A reader of folders that records what it was asked."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._questions: dict[str, None] = {}

    @property
    def questions(self) -> tuple[str, ...]:
        """Return the questions so far, each as one text."""
        return tuple(self._questions)

    def entries(self, folder: str, prefix: str = "") -> list[Entry]:
        """Return the entries of a folder whose names begin with a prefix, whatever its case."""
        folded = fold(prefix)
        self._questions[f"{folder}{_BETWEEN}{folded}"] = None
        return self._folders.listing(folder).begins(folded)

    def named(self, folder: str, name: str) -> str | None:
        """Return the URI of a file in a folder, whatever the case of its name; None if there is none.

        Raises: ClipError if it is not an ordinary file.
        """
        self.entries(folder, name)
        found = self._folders.listing(folder).get(name)
        if found is None:
            return None
        uri = f"{folder}/{found.name}"
        _check_ordinary(uri, found)
        return uri

    def has(self, uri: str) -> bool:
        """Return whether there is such a file, without recording the question."""
        found = self._folders.entry(uri)
        return found is not None and found.kind == "file"

    def is_folder(self, uri: str) -> bool:
        """Return whether there is such a folder, without recording the question."""
        found = self._folders.entry(uri)
        return found is not None and found.kind == "folder"

    def files(self, uris: Sequence[str]) -> None:
        """Record that these files are read; raise ClipError if one is missing or not an ordinary file."""
        together: dict[str, list[str]] = {}
        for uri in uris:
            folder, _, name = uri.rpartition("/")
            together.setdefault(folder, []).append(name)
        for folder, names in together.items():
            self.entries(folder, _beginning([fold(name) for name in names]))
            listing = self._folders.listing(folder)
            for name in names:
                found = listing.get(name)
                if found is None or found.kind == "folder":
                    raise ClipError(f"{folder}/{name} does not exist; unpack the dataset again")
                _check_ordinary(f"{folder}/{name}", found)

    def listed(self, folder: str, prefix: str = "") -> list[str]:
        """Return the names of files and folders in natural order, without hidden ones."""
        found = [entry for entry in self.entries(folder, prefix) if entry.kind in ("file", "folder")]
        return sorted((entry.name for entry in found if not entry.name.startswith(".")), key=natural)

    def pictures_in(self, folder: str, prefix: str = "") -> tuple[str, ...]:
        """Return the pictures in a folder whose names begin with a prefix, in natural order.

        Raises: ClipError if one of them is not an ordinary file.
        """
        shown = [entry for entry in self.entries(folder, prefix) if not entry.name.startswith(".")]
        found = [entry for entry in shown if entry.name.lower().endswith(FRAME_SUFFIXES)]
        for entry in found:
            _check_ordinary(f"{folder}/{entry.name}", entry)
        return tuple(f"{folder}/{name}" for name in sorted((entry.name for entry in found), key=natural))


def answer(folders: Folders, questions: Iterable[str]) -> str:
    """Return a digest of what the folders answer to recorded questions."""
    digest = hashlib.sha256()
    for entry in _answers(folders, questions):
        described = f"{entry.name}{_BETWEEN}{entry.kind}{_BETWEEN}{entry.state}\n"
        digest.update(described.encode(errors="surrogateescape"))
    return digest.hexdigest()


def can_be_remembered(folders: Folders, questions: Iterable[str]) -> bool:
    """Return whether every change of the files would change the answers."""
    return all(entry.settled and entry.state is not None for entry in _answers(folders, questions))


def _answers(folders: Folders, questions: Iterable[str]) -> Iterable[Entry]:
    for question in questions:
        folder, _, prefix = question.partition(_BETWEEN)
        yield from folders.listing(folder).begins(prefix)


def _beginning(names: Sequence[str]) -> str:
    """Return what all names begin with."""
    first, last = min(names), max(names)
    same = (index for index, letter in enumerate(first) if not last.startswith(letter, index))
    return first[: next(same, len(first))]


def _check_ordinary(uri: str, entry: Entry) -> None:
    if entry.kind in ("special file", "dead link"):
        raise ClipError(unusable(uri, entry))


def unusable(uri: str, entry: Entry) -> str:
    """Return why an entry that is neither file nor folder cannot be read, and the way out."""
    if entry.kind == "dead link":
        return f"{uri!r} is a link to no such file ({str(Path(uri).readlink())!r}); correct or remove it"
    return f"{uri!r} is a pipe, socket or device, not a file; remove it from the dataset"
