"""Writing the results page: beside the results, wherever they are."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from recapture.conf.heartbeat import beat
from recapture.datasets.store.storage import (
    ATOMIC,
    list_files,
    open_filesystem,
    put_file,
    raising_storage_faults,
)
from recapture.tasks.report.compare import Pair, metric_of, most_changed, pairs
from recapture.tasks.report.compared import compare_page
from recapture.tasks.report.page import CODE, CSS, FIRST, asset, clip_page, index_page, metric_names
from recapture.tasks.report.record import FOLDER, Report, read_record, run_names, write_record

INDEX = "index.html"
BATCH = 256  # pages in memory
COMPARED = 60  # videos of an earlier job that are copied beside a comparison
PAGE_VIDEO = ("page.mp4", "page.js")
Fetch = Callable[[str], Mapping[str, bytes]]  # key of a delivered artifact -> its PAGE_VIDEO; empty: gone


def write_pages(root: str, report: Report, *, all_clips: bool = False) -> int:
    """Write the pages of a report below root, OUTPUTS/DATASET; return how many pages of clips were written.

    A clip's page is not written again if the newest record says that it is there; all_clips: it is.
    """
    filesystem, base = open_filesystem(root)
    known = {} if all_clips else _known(root)
    shared = {f"{base}/{FOLDER}/{name}": asset(name).encode() for name in (CSS, *CODE)}
    _put_many(filesystem, shared)
    written = 0
    for batch in _batches(_clip_pages(report, known)):
        written += len(batch)
        _put_many(filesystem, {f"{base}/{clip}/{INDEX}": text for clip, text in batch})
        report.pages.update((clip, _digest(text)) for clip, text in batch)
    write_index(root, report)
    return written


def write_index(root: str, report: Report) -> str:
    """Write the page of the dataset; return its address."""
    filesystem, base = open_filesystem(root)
    text = index_page(report, comparisons=_comparisons(filesystem, base))
    put_file(filesystem, f"{base}/{INDEX}", text.encode())
    return f"{root}/{INDEX}"


def record_job(root: str, report: Report) -> str:
    """Write the pages and the record of a job that has ended; return the address of the dataset's page."""
    write_pages(root, report)
    write_record(root, report)
    if report.share is not None:
        write_index(root, read_record(root))
    return f"{root}/{INDEX}"


def write_comparison(root: str, before: Report, after: Report, fetch: Fetch) -> str:
    """Write the page that compares two jobs; return its address.

    The videos of the earlier job that changed most are copied from the store, as far as they still exist.
    """
    filesystem, base = open_filesystem(root)
    copies = f"{FOLDER}/{before.run}"
    playable = []
    for pair in _most_changed(before, after):
        beat()
        if not after.videos.key[pair.after] or not before.videos.key[pair.before]:
            continue
        files = fetch(before.videos.key[pair.before])
        if files:
            place = f"{base}/{copies}/{after.videos.clip[pair.after]}/{after.videos.label[pair.after]}"
            _put_many(filesystem, {f"{place}/{name}": content for name, content in files.items()})
            playable.append(pair)
    name = f"against-{before.run}.html"
    put_file(filesystem, f"{base}/{name}", compare_page(before, after, playable, copies).encode())
    return f"{root}/{name}"


def _most_changed(before: Report, after: Report) -> Sequence[Pair]:
    measured = set(metric_names(before, next(iter(before.videos.methods), "")))
    main = [name for name in metric_names(after, next(iter(after.videos.methods), "")) if name in measured]
    metric = metric_of(dict.fromkeys(main), (*FIRST, *main))
    if metric is None:
        return pairs(before, after)[:COMPARED]
    return most_changed(before, after, metric, COMPARED)


def _clip_pages(report: Report, known: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for clip, places in report.videos.of_clips():
        beat()
        text = clip_page(report, clip, places).encode()
        if known.get(clip) == _digest(text):
            report.pages[clip] = known[clip]
        else:
            yield clip, text


def _batches(pages: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    for one in pages:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _known(root: str) -> Mapping[str, str]:
    return read_record(root).pages if run_names(root) else {}


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=6).hexdigest()


def _comparisons(filesystem: fsspec.AbstractFileSystem, base: str) -> list[str]:
    """Return the runs that comparisons beside the page are against."""
    if isinstance(filesystem, LocalFileSystem):
        names = [path.rpartition("/")[2] for path in list_files(filesystem, base)]
    else:
        with suppress(FileNotFoundError):
            names = [path.rpartition("/")[2] for path in filesystem.ls(base, detail=False)]
    return sorted(name[8:-5] for name in names if name.startswith("against-") and name.endswith(".html"))


def _put_many(filesystem: fsspec.AbstractFileSystem, files: Mapping[str, bytes]) -> None:
    """Write files that can be made again: each appears whole, without waiting for the disk.

    Object stores take them side by side.
    """
    where = next(iter(files))
    with raising_storage_faults(where, writing=True):
        if isinstance(filesystem, LocalFileSystem):
            for path, content in files.items():
                _replace(Path(path), content)
                beat()
            return
        protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
        if protocol in ATOMIC:
            filesystem.pipe(dict(files))
            return
    for path, content in files.items():
        put_file(filesystem, path, content)


def _replace(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".page.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)
