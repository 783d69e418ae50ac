"""The folders of a dataset as one scan sees them: each is listed once, and links are followed safely.

On a local disk a folder is listed when it is first asked for. On object stores one listing of the whole tree
answers everything, with the etag of every object.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from recapture.datasets.store.storage import changed_at

SETTLED = 2.0  # seconds; a file may change twice within one tick of a coarse clock
AHEAD = 86400.0  # seconds; a later time is wrong, as of a camera whose clock is not set, and stays
_TAGS = ("ETag", "etag", "md5Hash", "generation")


class Entry(NamedTuple):
    """What a folder holds under one name."""

    name: str
    kind: Literal["file", "folder", "dead link", "special file"]
    state: str | None  # changes when the content does; None if the storage does not tell
    settled: bool  # no later change can have the same state
    link: bool = False


class Listing:
    """The entries of a folder, found by name or by the beginning of a name, whatever its case."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = sorted(entries, key=lambda entry: (fold(entry.name), entry.name))
        self._folded = [fold(entry.name) for entry in self.entries]

    def begins(self, prefix: str) -> list[Entry]:
        """Return the entries whose folded names begin with a folded prefix."""
        first = bisect_left(self._folded, prefix)
        last = bisect_left(self._folded, prefix + chr(0x10FFFF), first) if prefix else len(self._folded)
        return self.entries[first:last]

    def get(self, name: str) -> Entry | None:
        """Return the entry of this name, else the only one whose name differs by case or Unicode form."""
        folded = fold(name)
        first = bisect_left(self._folded, folded)
        same = self.entries[first : bisect_right(self._folded, folded, first)]
        exact = [entry for entry in same if entry.name == name]
        return exact[0] if exact else same[0] if len(same) == 1 else None


def fold(name: str) -> str:
    """Return what two names have in common that are one file on some disks."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


class Folders:
    """The folders at and around the URI of a dataset."""

    def __init__(self, uri: str) -> None:
        self._listings: dict[str, Listing] = {}
        self.unlisted: dict[str, OSError] = {}  # URI -> why the folder could not be listed
        fs, path = fsspec.core.url_to_fs(uri)
        fs.invalidate_cache()
        self.root = place_of(fs, path)

    def read_whole_tree(self) -> None:
        """List everything below the root at once, where this saves requests."""
        fs, path = fsspec.core.url_to_fs(self.root)
        if isinstance(fs, LocalFileSystem):
            return
        path = path.rstrip("/")
        held: dict[str, list[Entry]] = {path: []}
        now = time.time()
        for name, found in fs.find(path, detail=True, withdirs=True).items():
            folder, _, last = name.rstrip("/").rpartition("/")
            if not last or name.rstrip("/") == path:
                continue  # an object that stands for the folder itself
            if found["type"] == "directory":
                held.setdefault(f"{folder}/{last}", [])
            else:
                held.setdefault(folder, []).append(_remote(found, last, now))
        for folder in list(held):
            while folder != path:  # object stores do not list every folder by itself
                folder = folder.rpartition("/")[0]
                held.setdefault(folder, [])
        for folder in held:
            if folder != path:
                above, _, last = folder.rpartition("/")
                held[above].append(Entry(last, "folder", "", settled=True))
        self._listings |= {place_of(fs, folder): Listing(entries) for folder, entries in held.items()}

    def listing(self, uri: str) -> Listing:
        """Return what a folder holds; nothing if it does not exist or cannot be listed (see `unlisted`)."""
        uri = _plain(uri)
        if uri not in self._listings:
            fs, path = fsspec.core.url_to_fs(uri)
            try:
                found = list(_local(path) if isinstance(fs, LocalFileSystem) else _listed(fs, path))
            except (FileNotFoundError, NotADirectoryError):
                found = []
            except OSError as error:
                if not isinstance(error, PermissionError) and error.errno != errno.EIO:
                    raise
                self.unlisted[uri], found = error, []
            self._listings[uri] = Listing(found)
        return self._listings[uri]

    def entry(self, uri: str) -> Entry | None:
        """Return the entry of a file or folder, None if there is none."""
        folder, _, name = uri.rstrip("/").rpartition("/")
        return self.listing(folder or "/").get(name)


def real_place(uri: str) -> str:
    """Return one text for all URIs of a place: relative and absolute paths, file://, links.

    No storage is asked: it may be unreachable, and that is for whoever reads or writes there to report.
    """
    protocol, rest = fsspec.core.split_protocol(uri)
    kind = fsspec.get_filesystem_class(protocol or "file")
    if issubclass(kind, LocalFileSystem):
        return os.path.realpath(kind._strip_protocol(uri))
    name = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
    return f"{name}://{rest.rpartition('@')[2].strip('/')}"


def is_below(place: str, above: str) -> bool:
    """Return whether a real place is another one or inside it."""
    return f"{place}/".startswith(f"{above.rstrip('/')}/")


def place_of(fs: Any, path: str) -> str:
    """Return the URI of a path, absolute and without a slash at its end."""
    place = path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))
    return _plain(place)


def _plain(uri: str) -> str:
    return uri if uri.endswith("://") else uri.rstrip("/") or "/"


def _listed(fs: Any, path: str) -> Iterator[Entry]:
    now = time.time()
    for found in fs.ls(path, detail=True):
        name = found["name"].rstrip("/")
        if name == path.rstrip("/"):
            continue
        if found["type"] == "directory":
            yield Entry(name.rpartition("/")[2], "folder", "", settled=True)
        else:
            yield _remote(found, name.rpartition("/")[2], now)


def _remote(found: dict[str, Any], name: str, now: float) -> Entry:
    tag = next((str(found[field]) for field in _TAGS if found.get(field)), None)
    if tag is not None:
        return Entry(name, "file", f"{found['size']} {tag}", settled=True)
    changed = changed_at(found)
    if changed == float("inf"):
        return Entry(name, "file", None, settled=False)
    return Entry(name, "file", f"{found['size']} {changed!r}", _is_settled(changed, now))


def _local(folder: str) -> Iterator[Entry]:
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            link = entry.is_symlink()
            try:
                found = entry.stat()
            except OSError:  # a link to nothing or to itself, or a file that was removed since
                if link:
                    yield Entry(entry.name, "dead link", "", settled=True, link=True)
                continue
            if stat.S_ISDIR(found.st_mode):
                yield Entry(entry.name, "folder", "", settled=True, link=link)
            elif stat.S_ISREG(found.st_mode):
                # The time of change also tells a file that was replaced by one of the same size and age.
                state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
                settled = _is_settled(found.st_mtime, now) and _is_settled(found.st_ctime, now)
                yield Entry(entry.name, "file", state, settled, link)
            else:
                yield Entry(entry.name, "special file", "", settled=True, link=link)


def _is_settled(changed: float, now: float) -> bool:
    return not now - SETTLED < changed < now + AHEAD
