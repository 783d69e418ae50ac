"""Any fsspec storage: open it, write files atomically, and distinguish its faults from those of a clip."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from recapture.conf.heartbeat import beat

BLOCK = 2**20  # bytes in memory while a file is copied
SMALL = 2**13  # bytes that a commit marker has at most, as a rule
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
BUSY = frozenset({errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ESTALE})
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "fsspec", "gcsfs", "urllib3")  # not all raise OSError
ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"})
FULL = "free space (`recapture gc --dry-run` lists unused artifacts), or choose another location"
CLOSED = "make it writable, or renew the credentials"
UNREACHABLE = "run the job again when the storage responds"


class StoreFailed(OSError):
    """The storage refuses all writes or reads: it is full, read-only, or the credentials have expired."""


class StoreBusy(StoreFailed):
    """The storage is throttled, slow or unreachable; trying again may help."""


def open_filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the filesystem and path of an fsspec URL; object stores get no listings cache."""
    options = {"use_listings_cache": False} if url.startswith(("s3://", "gs://")) else {}
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    if "s3" in filesystem.protocol:
        _retry_broken_connections()
    return filesystem, path.rstrip("/")


@cache
def _retry_broken_connections() -> None:
    """Have s3fs try again where a connection breaks while a body is sent: to it, there is no endpoint."""
    from botocore.exceptions import EndpointConnectionError
    from s3fs.core import add_retryable_error

    add_retryable_error(EndpointConnectionError)


def put_file(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing: rename on local disks, else one put."""
    with raising_storage_faults(path, writing=True):
        if isinstance(filesystem, LocalFileSystem):
            _replace_file(Path(path), io.BytesIO(content))
        else:
            with _at_once(filesystem, path) as place:
                filesystem.pipe_file(place, content)


def put_path(filesystem: fsspec.AbstractFileSystem, path: str, source: Path) -> None:
    """Copy a local file as `put_file` writes, block by block."""
    with raising_storage_faults(path, writing=True):
        if isinstance(filesystem, LocalFileSystem):
            with source.open("rb") as content:
                _replace_file(Path(path), content)
        else:
            with _at_once(filesystem, path) as place:
                filesystem.put_file(str(source), place)


def list_files(filesystem: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    """Return the paths of the files in a folder without subfolders; none if it does not exist."""
    if isinstance(filesystem, LocalFileSystem):
        with suppress(FileNotFoundError):
            return [f"{folder}/{name}" for name in os.listdir(folder)]  # noqa: PTH208 - ten times faster
        return []
    return list(filesystem.find(folder)) if filesystem.exists(folder) else []


def file_sizes(filesystem: fsspec.AbstractFileSystem, folder: str) -> dict[str, int]:
    """Return file name -> bytes of the files in a folder, without subfolders; empty if it does not exist."""
    if isinstance(filesystem, LocalFileSystem):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        return {}
    filesystem.invalidate_cache(folder)
    with raising_storage_faults(folder, writing=False):
        try:
            listing = filesystem.ls(folder, detail=True)
        except FileNotFoundError:
            return {}
    return {
        entry["name"].rsplit("/", 1)[1]: int(entry["size"]) for entry in listing if entry["type"] == "file"
    }


def local_sizes(folder: str, names: Iterable[str]) -> dict[str, int]:
    """Return file name -> bytes of those of the named files in a local folder that exist."""
    sizes = {}
    for name in names:
        with suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a third of the time
            if stat.S_ISREG(found.st_mode):
                sizes[name] = found.st_size
    return sizes


def read_local(path: str) -> bytes:
    """Return the content of a local file; for the many small ones, without a file object."""
    opened = os.open(path, os.O_RDONLY)
    try:
        content = os.read(opened, SMALL)
        if len(content) < SMALL:
            return content
        blocks = [content]
        while block := os.read(opened, BLOCK):
            blocks.append(block)
            beat()
        return b"".join(blocks)
    finally:
        os.close(opened)


def changed_at(entry: dict[str, Any]) -> float:
    """Return when a listed file changed, in seconds since 1970; infinity if the storage does not say."""
    for field in ("mtime", "LastModified", "modified", "updated", "created"):
        moment = entry.get(field)
        if isinstance(moment, datetime):
            return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
        if isinstance(moment, int | float):
            return float(moment)
    return float("inf")


def remove_tree(filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
    """Delete a folder and its contents, if it exists."""
    filesystem.invalidate_cache()
    if filesystem.exists(folder):
        with suppress(FileNotFoundError):  # another process deleted it first
            filesystem.rm(folder, recursive=True)


def check_plain(what: str, name: str) -> None:
    """Raise ValueError for a name that is not one plain component of a path."""
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a {what}; use letters, digits, '.', '_' and '-'")


@contextmanager
def raising_storage_faults(path: str, *, writing: bool) -> Iterator[None]:
    """Raise StoreFailed or StoreBusy if the storage is to blame; other errors pass unchanged.

    A missing file is a fault of the storage only if it was to be written.
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
        return StoreBusy, UNREACHABLE
    if isinstance(error, OSError) and error.errno in REFUSED:
        return StoreFailed, FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else CLOSED
    if isinstance(error, OSError) and error.errno in BUSY:
        return StoreBusy, UNREACHABLE
    return None, ""


@contextmanager
def _at_once(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[str]:
    """Give the path to write a file to, so that it appears under its name only when it is whole.

    That is its own path on storage whose single puts are atomic, else a temporary name beside it.
    """
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    if protocol in ATOMIC:
        yield path
        return
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{uuid.uuid4().hex}"
    filesystem.makedirs(folder, exist_ok=True)
    try:
        yield temporary
        try:
            filesystem.mv(temporary, path)
        except FileExistsError:  # a protocol that renames only to new names
            filesystem.rm_file(path)
            filesystem.mv(temporary, path)
    except BaseException:
        with suppress(Exception):
            filesystem.rm_file(temporary)
        raise


def write_aside(target: Path, content: BinaryIO) -> Path:
    """Write a local file under a temporary name beside its own, and flush it; return that name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            while block := content.read(BLOCK):
                stream.write(block)
                beat()
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _replace_file(target: Path, content: BinaryIO) -> None:
    temporary = write_aside(target, content)
    try:
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
