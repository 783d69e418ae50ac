"""Folders of reference clips with prompts, as sets for motion transfer come: CATEGORY/NAME.mp4, prompts.json.

No such set has a published layout (Follow-Your-Motion's MotionBench is not public). This one is a folder
`references` (or `videos`) with videos, in folders by category if there are any, beside a `prompts.json`:

    {"single/camel": {"reference": "a camel walks", "targets": ["a horse walks"]}, "dog": "a dog runs"}

A reference's prompt becomes its caption; `target_prompts` returns what else its motion is to be given to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import joined, parent_of
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

PROMPTS = "prompts.json"
_FOLDERS = ("references", "videos")


class Prompts(BaseModel):
    """What a reference shows, and what its motion is to be given to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str = ""
    targets: tuple[str, ...] = ()


_FILE = TypeAdapter(dict[str, Prompts | str])


def _is_set(names: frozenset[str]) -> bool:
    return PROMPTS in names and bool(names & set(_FOLDERS))


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for inside, root in tree.below(_is_set):
        for folder in _FOLDERS:
            for name in tree.listed(f"{root}/{folder}"):
                place = f"{root}/{folder}/{name}"
                below = [(name, place)]
                if tree.is_folder(place):
                    below = [(f"{name}/{one}", f"{place}/{one}") for one in tree.listed(place)]
                for inner, file in below:
                    if inner.lower().endswith(VIDEO_SUFFIXES):
                        yield joined(inside, inner.rpartition(".")[0]), file


def _load(uri: str, asked: Asked) -> View:
    file, name = _prompts_beside(uri, asked)
    asked.files([file])
    return View(
        video=uri, caption=_prompts(file, _state(file)).get(name, Prompts()).reference, described_by=(file,)
    )


def _prompts_beside(uri: str, asked: Asked) -> tuple[str, str]:
    """Return the prompts file of a reference, and the reference's name in it."""
    folder, name = parent_of(uri), uri.rsplit("/", 1)[1].rpartition(".")[0]
    for _ in range(2):
        root = parent_of(folder)
        if folder.rsplit("/", 1)[1] in _FOLDERS and asked.has(f"{root}/{PROMPTS}"):
            return f"{root}/{PROMPTS}", name
        folder, name = root, f"{folder.rsplit('/', 1)[1]}/{name}"
    raise ClipError(f"{uri!r} has no {PROMPTS} beside its folder {' or '.join(_FOLDERS)}; write one")


def target_prompts(dataset_uri: str, clip_id: str) -> tuple[str, ...]:
    """Return the prompts to which a reference's motion is to be given; raises ClipError as a scan does."""
    file = f"{dataset_uri.rstrip('/')}/{PROMPTS}"
    return _prompts(file, _state(file)).get(clip_id, Prompts()).targets


def _state(file: str) -> Any:
    fs, path = fsspec.core.url_to_fs(file)
    return fs.ukey(path)


@lru_cache(maxsize=8)
def _prompts(file: str, state: Any) -> dict[str, Prompts]:
    """Return the prompts of every reference; state: changes when the file does."""
    try:
        with fsspec.open(file, "rb") as stream:
            found = _FILE.validate_python(json.loads(stream.read()))
    except (ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClipError(
            f"prompts {file!r} cannot be read ({reason}); write them as docs/inputs.md says"
        ) from error
    return {name: one if isinstance(one, Prompts) else Prompts(reference=one) for name, one in found.items()}


MOTIONBENCH = Layout("motionbench", _is_set, _find, _load)
