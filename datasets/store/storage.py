"""Any fsspec storage: opening it, writing so that nobody sees half, and telling its faults from a clip's."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

BLOCK = 2**20  # bytes held of a file that is copied
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
BUSY = frozenset({errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ESTALE})
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "fsspec", "gcsfs", "urllib3")  # not all raise OSError
FULL = "free space (`recapture gc --dry-run` lists what nothing needs), or set another place"
CLOSED = "make it writable, or renew the credentials"
AWAY = "run the job again when the storage answers"


class StoreFailed(OSError):
    """The storage refuses, whatever the item: it is full, read-only, or the credentials have ended."""


class StoreBusy(StoreFailed):
    """The storage does not answer as it should: throttled, slow or cut off. Trying again may mend it."""


def open_filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the filesystem and the path of an fsspec URL; object stores without a listings cache."""
    options = {"use_listings_cache": False} if url.startswith(("s3://", "gs://")) else {}
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    return filesystem, path.rstrip("/")


def put_file(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing: rename on local disks, else a single put."""
    with telling_storage_faults(path, writing=True):
        if isinstance(filesystem, LocalFileSystem):
            _replace_file(Path(path), io.BytesIO(content))
        else:
            filesystem.pipe_file(path, content)


def put_path(filesystem: fsspec.AbstractFileSystem, path: str, source: Path) -> None:
    """Write what a local file holds as `put_file` does, a block at a time."""
    with telling_storage_faults(path, writing=True):
        if isinstance(filesystem, LocalFileSystem):
            with source.open("rb") as content:
                _replace_file(Path(path), content)
        else:
            filesystem.put_file(str(source), path)


def list_files(filesystem: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    """Return the paths of the files in a folder without folders; none when it does not exist."""
    if isinstance(filesystem, LocalFileSystem):
        with suppress(FileNotFoundError):
            return [f"{folder}/{name}" for name in os.listdir(folder)]  # noqa: PTH208 - ten times as fast
        return []
    return list(filesystem.find(folder)) if filesystem.exists(folder) else []


def remove_tree(filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
    """Remove a folder and what is in it, if it is there."""
    filesystem.invalidate_cache()
    if filesystem.exists(folder):
        with suppress(FileNotFoundError):  # another was quicker
            filesystem.rm(folder, recursive=True)


def check_plain(what: str, name: str) -> None:
    """Raise ValueError for a name that would not be one plain step of a path below the root."""
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a {what}; use letters, digits, '.', '_' and '-'")


@contextmanager
def telling_storage_faults(path: str, *, writing: bool) -> Iterator[None]:
    """Raise StoreFailed or StoreBusy where storage is to blame; whatever else goes wrong stays as it is.

    A file that is not there is only a fault of the storage when it was to be written.
    """
    verb = "written" if writing else "read"
    try:
        yield
    except StoreFailed:
        raise
    except Exception as error:
        kind, way_out = _blame(error, writing)
        if kind is None:
            raise
        what = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise kind(f"{path} cannot be {verb}: {what}; {way_out}") from error


def _blame(error: Exception, writing: bool) -> tuple[type[StoreFailed] | None, str]:
    name, module = type(error).__name__, type(error).__module__.partition(".")[0]
    if isinstance(error, FileNotFoundError):
        return (StoreFailed, CLOSED) if writing else (None, "")
    if isinstance(error, PermissionError) or "Credential" in name:
        return StoreFailed, CLOSED
    if isinstance(error, ConnectionError | TimeoutError) or module in CLIENTS:
        return StoreBusy, AWAY
    if isinstance(error, OSError) and error.errno in REFUSED:
        return StoreFailed, FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else CLOSED
    if isinstance(error, OSError) and error.errno in BUSY:
        return StoreBusy, AWAY
    return None, ""


def _replace_file(target: Path, content: BinaryIO) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            shutil.copyfileobj(content, stream, BLOCK)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
