"""Whether a job's inputs cannot be read because of their storage, or because of one file among others.

The rule: if other files beside an unreadable one, or elsewhere in the dataset, can be read, the storage
answers and the file is to blame; if none can, the storage is unreachable. An unmounted share is an empty
folder, so an empty folder counts as unreachable. Storage clients raise errors of every type, and here any
error of a test read means the same, hence `except Exception`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import fsspec

from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.storage import BUSY, CLIENTS, REFUSED, StoreBusy, StoreFailed, open_filesystem

TRIED = 4  # files, and folders per level
TEMPORARY = "recapture-"  # prefix of temporary folders
DEPTH = 3  # levels below a folder that are searched for files
GONE = frozenset({errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN, errno.EHOSTUNREACH})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # of this machine: inputs are only read
Blame = Literal["storage", "file", "passing"]


class InputsAway(StoreBusy):
    """The storage that a job reads from does not answer; trying again may help."""


def blame(error: BaseException, files: Iterable[str], roots: Sequence[str]) -> tuple[Blame, str]:
    """Return what is to blame for an error of an item, and the URI that cannot be read ("" if all can).

    files: URIs that the item reads; roots: the dataset's, then other files and folders that inputs come from.
    storage: it is unreachable. passing: it was, but answers now. file: anything else.
    """
    if any(isinstance(one, StoreFailed | ArtifactError) for one in _chain(error)):
        return "file", ""
    for root in filter(None, roots):
        if not has_content(root):
            return "storage", root
    faults = [one for one in _chain(error) if _is_storage_fault(one)]
    if not faults:
        return "file", ""
    named = [name for fault in faults if (name := _file_of(fault))]
    unreadable = [uri for uri in dict.fromkeys([*named, *files]) if not _reads(uri)]
    for uri in unreadable:
        if not _answers_beside(uri, roots[0] if roots else ""):
            return "storage", uri
    missing = any(isinstance(fault, FileNotFoundError | NotADirectoryError) for fault in faults)
    return ("file" if missing else "passing"), (unreadable[0] if unreadable else "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        hidden = following.__suppress_context__
        following = following.__cause__ or (None if hidden else following.__context__)


def _file_of(error: BaseException) -> str:
    """Return the file that an error names; "" for none, or for a temporary file of ours."""
    name = getattr(error, "filename", None)
    return name if isinstance(name, str) and f"/{TEMPORARY}" not in name else ""


def _is_storage_fault(error: BaseException) -> bool:
    if type(error).__module__.partition(".")[0] in CLIENTS or "Credential" in type(error).__name__:
        return True
    if isinstance(
        error, FileNotFoundError | NotADirectoryError | PermissionError | ConnectionError | TimeoutError
    ):
        return True
    return isinstance(error, OSError) and error.errno in (BUSY | GONE | REFUSED) - FULL


def has_content(root: str) -> bool:
    """Return whether a file can be read, or a folder lists anything; True for what is no storage at all."""
    try:
        filesystem, path = open_filesystem(root)
    except (ValueError, ImportError):
        return True  # such as procedural scenes
    try:
        filesystem.invalidate_cache()
        if filesystem.isdir(path):
            return bool(filesystem.ls(path, detail=False))
        filesystem.cat_file(path, 0, 1)
    except Exception:
        return False
    return True


def _reads(uri: str) -> bool:
    """Return whether a file's first byte, or a folder's listing, can be read now."""
    try:
        filesystem, path = open_filesystem(uri)
        filesystem.invalidate_cache()
        if filesystem.isdir(path):
            filesystem.ls(path, detail=False)
        else:
            filesystem.cat_file(path, 0, 1)
    except Exception:
        return False
    return True


def _answers_beside(uri: str, root: str) -> bool:
    """Return whether any other file near this one, inside the root if it is there, can be read."""
    try:
        filesystem, path = open_filesystem(uri)
        filesystem.invalidate_cache()
        folder = filesystem._parent(path)
        top = _top(root, path, folder)
        while True:
            if _any_file_reads(filesystem, folder, path, DEPTH):
                return True
            if len(folder) <= len(top):
                return False
            folder = filesystem._parent(folder)
    except Exception:
        return False


def _top(root: str, path: str, folder: str) -> str:
    """Return the highest folder whose files prove that a file's storage answers: the root, if it is in it."""
    try:
        inside = open_filesystem(root)[1]
    except (ValueError, ImportError):
        return folder
    return inside if inside and path.startswith(f"{inside}/") else folder


def _any_file_reads(filesystem: fsspec.AbstractFileSystem, folder: str, without: str, depth: int) -> bool:
    """Return whether a file in a folder or below can be read; a folder that does not exist has none."""
    try:
        entries = [
            entry for entry in filesystem.ls(folder, detail=True) if entry["name"].rstrip("/") != without
        ]
    except (FileNotFoundError, NotADirectoryError):
        return False
    for entry in islice((entry for entry in entries if entry["type"] == "file"), TRIED):
        if _reads_one(filesystem, entry["name"]):
            return True
    folders = (entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory")
    return depth > 0 and any(
        _any_file_reads(filesystem, below, without, depth - 1) for below in islice(folders, TRIED)
    )


def _reads_one(filesystem: fsspec.AbstractFileSystem, path: str) -> bool:
    try:
        filesystem.cat_file(path, 0, 1)
    except Exception:
        return False
    return True
