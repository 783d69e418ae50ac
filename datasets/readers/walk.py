"""Walk through the folders of a dataset: links are entered once, and the product's own files left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recapture.datasets.clips.clip import ClipError, Rejected, printable
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers.asked import unusable
from recapture.datasets.readers.folders import Entry, Folders, Listing, is_below, real_place
from recapture.datasets.store.marker import MARKER


@dataclass
class Visit:
    """A folder of the dataset."""

    inside: str  # its path from the root
    uri: str
    listing: Listing
    enter: list[Entry]  # the folders in it that are visited next; remove those that must not be


@dataclass(frozen=True)
class LeftOut:
    """A folder that is no input of its own: outputs of this product, or a link to what is read already."""

    uri: str
    why: str = "holds outputs of recapture"


def walk(folders: Folders, own: Sequence[str] = ()) -> Iterator[Visit | Rejected | LeftOut]:
    """Yield every folder at and below the root, and what cannot be entered or is no file.

    own: URIs of folders that the job writes to. A linked folder is entered unless it holds the dataset itself
    or was entered already, so that loops end; hidden folders are not entered.
    """
    folders.read_whole_tree()
    top = real_place(folders.root)
    mine = {place for place in map(real_place, own) if place != top}
    entered: dict[str, str] = {}  # real place -> path in the dataset
    waiting = deque([("", folders.root, top)])
    links: list[tuple[str, str]] = []
    while waiting or links:
        if waiting:
            inside, uri, place = waiting.popleft()
        else:  # plain folders come first, so that they keep their own paths
            inside, uri = links.pop(0)
            place = real_place(uri)
        if inside and (place in entered or is_below(top, place)):
            yield _known(uri, entered.get(place))
            continue
        listing = folders.listing(uri)
        if inside and (place in mine or listing.get(MARKER) is not None):
            yield LeftOut(uri)
            continue
        entered[place] = inside
        if uri in folders.unlisted:
            yield rejected(inside, uri, f"the folder cannot be listed ({folders.unlisted[uri].strerror})")
            continue
        yield from _unusable(inside, uri, listing)
        subfolders = [entry for entry in listing.entries if entry.kind == "folder"]
        visit = Visit(inside, uri, listing, [one for one in subfolders if _readable(one.name)])
        yield visit
        for entry in visit.enter:
            below, there = f"{inside}/{entry.name}".lstrip("/"), f"{uri.rstrip('/')}/{entry.name}"
            if entry.link:
                links.append((below, there))
            else:
                waiting.append(
                    (below, f"{uri.rstrip('/')}/{entry.name}", f"{place.rstrip('/')}/{entry.name}")
                )


def rejected(inside: str, uri: str, reason: str) -> Rejected:
    """Return a rejection of a file or folder of the dataset."""
    suffixed = inside.lower().endswith(VIDEO_SUFFIXES)
    clip_id = inside[: inside.rindex(".")] if suffixed else inside
    return Rejected.because(clip_id or ".", printable(uri, limit=4096), ClipError(reason))


def _readable(name: str) -> bool:
    return not name.startswith(".") and is_text(name)


def is_text(name: str) -> bool:
    """Return whether a name is UTF-8; others cannot be written to any report."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _unusable(inside: str, uri: str, listing: Listing) -> Iterator[Rejected]:
    for entry in listing.entries:
        if entry.name.startswith("."):
            continue
        below, place = f"{inside}/{entry.name}".lstrip("/"), f"{uri.rstrip('/')}/{entry.name}"
        video = entry.name.lower().endswith(VIDEO_SUFFIXES)
        if not is_text(entry.name) and (video or entry.kind == "folder"):
            yield rejected(below, place, f"the name {printable(entry.name)!r} is not UTF-8; rename it")
        elif entry.kind in ("dead link", "special file"):
            yield rejected(below, place, unusable(place, entry))


def _known(uri: str, entered: str | None) -> LeftOut:
    holds = f"the folder {entered!r}, which is read already" if entered else "a folder that holds the dataset"
    return LeftOut(uri, f"leads to {holds}")
