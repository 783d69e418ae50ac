"""Read procedural scenes as clips: from a `scenes://` URI, or from a YAML or JSON file that lists scenes.

    scenes://?count=4&seed=0&frames=17&height=128&width=128

stands for `count` clips of consecutive seeds; every clip of kind scene has such a URI with count=1, which
describes it completely. A scenes file is a mapping with a list `scenes`, whose entries have the same keys
(without count) plus id and caption, and with `defaults` for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import fsspec
import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recapture.datasets.clips.clip import Clip, ClipError, Rejected, validate_clip_id
from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.render import SceneFrames, caption, co_visible, render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene

SCHEME = "scenes://"
# Part of every scene's content hash: increment it if a seed no longer gives the same pixels.
SCENES_VERSION = 2
_CHUNK_PIXELS = 1 << 19  # rendered at once; bounds the memory of large scenes

_CAMERA_MOTION = {"any": None, "still": False, "moving": True}


class SceneSpec(BaseModel):
    """Everything that a scene clip's pixels depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=2**53)
    frames: int = Field(17, ge=1, le=100_000)
    height: int = Field(128, ge=8, le=4320)
    width: int = Field(128, ge=8, le=7680)
    fps: str = "8"
    camera: str = "any"

    @field_validator("camera")
    @classmethod
    def _is_a_motion(cls, value: str) -> str:
        if value not in _CAMERA_MOTION:
            raise ValueError(f"must be one of {', '.join(_CAMERA_MOTION)}")
        return value

    @field_validator("fps", mode="before")
    @classmethod
    def _is_a_rate(cls, value: Any) -> str:
        try:
            rate = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= 1000:
            raise ValueError("must be a rate such as 8 or 30000/1001")
        return str(rate)

    @property
    def length(self) -> int:
        """Return the number of frames."""
        return self.frames

    @property
    def uri(self) -> str:
        """Return the URI of this one clip."""
        return SCHEME + "?" + urlencode({"count": 1} | self.model_dump(), safe="/")

    def scene(self) -> Scene:
        """Return the scene."""
        return sample_scene(self.seed, _CAMERA_MOTION[self.camera])


class _Several(SceneSpec):
    count: int = Field(1, ge=1, le=1_000_000)


class _Listed(SceneSpec):
    id: str | None = None
    caption: str | None = None


class _ScenesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scenes: list[dict[str, Any]]
    defaults: dict[str, Any] = {}


def read_scenes(uri: str) -> Iterator[Clip | Rejected]:
    """Yield the clips of a scenes:// URI, with ids scene-SEED; raises ClipError for an invalid URI."""
    several = _parsed(uri)
    shared = several.model_dump(exclude={"count"})
    for seed in range(several.seed, several.seed + several.count):
        spec = SceneSpec(**(shared | {"seed": seed}))
        yield scene_clip(f"scene-{seed:06d}", spec)


def read_scenes_file(uri: str, folder: str = "") -> Iterator[Clip | Rejected]:
    """Yield the clips that a scenes file lists, with ids below `folder`; reject broken entries one by one."""
    whole_id = f"{folder}/scenes".lstrip("/")
    try:
        with fsspec.open(uri, "rb") as stream:
            listed = _ScenesFile.model_validate(yaml.safe_load(stream.read()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = _readable(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        advice = "write it as in datasets/sample/scenes.yaml"
        yield Rejected.because(whole_id, uri, ClipError(f"scenes file {uri!r}: {reason}; {advice}"))
        return
    for index, entry in enumerate(listed.scenes):
        clip_id = f"{whole_id}[{index}]"
        try:
            given = _Listed.model_validate(listed.defaults | entry)
            clip_id = f"{folder}/{given.id or f'scene-{given.seed:06d}'}".lstrip("/")
            spec = SceneSpec(**given.model_dump(exclude={"id", "caption"}))
            yield scene_clip(validate_clip_id(clip_id), spec, given.caption)
        except ValueError as error:
            reason = _readable(error) if isinstance(error, ValidationError) else str(error)
            yield Rejected.because(clip_id, uri, ClipError(f"scenes file {uri!r}, entry {index}: {reason}"))


def scene_clip(clip_id: str, spec: SceneSpec, words: str | None = None) -> Clip:
    """Return the clip of a scene; words replace its own caption."""
    described = f"{SCENES_VERSION}:{spec.uri}"
    return Clip(
        id=clip_id,
        uri=spec.uri,
        kind="scene",
        fps=spec.fps,
        frames=spec.frames,
        width=spec.width,
        height=spec.height,
        duration=float(spec.frames / Fraction(spec.fps)),
        audio=False,
        caption=caption(spec.scene()) if words is None else words,
        content_hash=hashlib.sha256(described.encode()).hexdigest(),
    )


class Described(Protocol):
    """What the pixels of a computed clip come from."""

    @property
    def length(self) -> int:
        """Return the number of frames."""
        ...

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        ...

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        ...

    def scene(self) -> Scene:
        """Return the scene."""
        ...


def scene_spec(uri: str) -> SceneSpec:
    """Return what the URI of a single scene describes; raises ClipError for an invalid one."""
    return SceneSpec(**_parsed(uri).model_dump(exclude={"count"}))


class SceneSource:
    """An opened scene, with exact depth, cameras, and ground truth for every other camera."""

    def __init__(self, clip: Clip, spec: Described) -> None:
        self._clip = clip
        self._spec = spec
        self._scene = self._spec.scene()
        self._cameras = source_cameras(self._scene, self._spec.length, self._spec.height, self._spec.width)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """See ClipSource."""
        for rendered in self._rendered(start, stop):
            yield from to_uint8(rendered)

    def depth(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource; exact."""
        maps = [rendered.depth.numpy() for rendered in self._rendered(start, stop, antialias=1)]
        if not maps:
            return np.zeros((0, self._spec.height, self._spec.width), np.float32)
        return np.concatenate(maps)

    def known(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return None: every pixel of a scene is known."""
        return None

    def objects(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource; exact."""
        maps = [rendered.object_id.numpy() for rendered in self._rendered(start, stop, antialias=1)]
        return np.concatenate(maps) if maps else np.zeros((0, self._spec.height, self._spec.width), np.int64)

    def cameras(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See ClipSource."""
        intrinsics, world_to_camera = self._cameras
        return intrinsics.double().numpy(), world_to_camera.double().numpy()

    def truth(
        self, intrinsics: Any, world_to_camera: Any, source_frame: Any, height: int, width: int
    ) -> dict[str, np.ndarray] | None:
        """See ClipSource; source_frame may be any time, also between frames. Visibility is exact.

        Raises: ClipError if the numbers of cameras and times differ, or a time is outside the clip.
        """
        lens = torch.as_tensor(np.asarray(intrinsics)).double()
        pose = torch.as_tensor(np.asarray(world_to_camera)).double()
        moment = torch.as_tensor(np.asarray(source_frame)).double()
        if not len(lens) == len(pose) == len(moment):
            raise ClipError(
                f"clip {self._clip.id!r}: truth was asked for {len(lens)} intrinsics, "
                f"{len(pose)} cameras and {len(moment)} times; give one of each per view"
            )
        if len(moment) and not (moment.min() >= 0 and moment.max() <= self._spec.length - 1):
            raise ClipError(
                f"clip {self._clip.id!r}: truth was asked for frames {float(moment.min()):g} to "
                f"{float(moment.max()):g} of {self._spec.length}; make the trajectory for this clip"
            )
        size = max(height * width, self._spec.height * self._spec.width)
        parts: dict[str, list[np.ndarray]] = {"video": [], "depth": [], "object_id": [], "visible": []}
        for part in torch.arange(len(moment)).split(max(1, _CHUNK_PIXELS // size)):
            nearest = moment[part].round().long()
            source = self._cameras[0][nearest], self._cameras[1][nearest]
            views = lens[part], pose[part]
            rendered = render_scene(self._scene, *views, moment[part], height, width)
            visible = co_visible(
                self._scene,
                *views,
                *source,
                moment[part],
                height,
                width,
                source_size=(self._spec.height, self._spec.width),
            )
            parts["video"].append(to_uint8(rendered))
            parts["depth"].append(rendered.depth.numpy())
            parts["object_id"].append(rendered.object_id.numpy())
            parts["visible"].append(visible.numpy())
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _rendered(self, start: int, stop: int | None, antialias: int = 2) -> Iterator[SceneFrames]:
        spec = self._spec
        stop = spec.length if stop is None else min(stop, spec.length)
        step = max(1, _CHUNK_PIXELS // (spec.height * spec.width))
        for first in range(start, stop, step):
            part = slice(first, min(first + step, stop))
            times = torch.arange(part.start, part.stop, dtype=torch.float64)
            intrinsics, pose = self._cameras
            yield render_scene(
                self._scene, intrinsics[part], pose[part], times, spec.height, spec.width, antialias
            )


def to_uint8(rendered: SceneFrames) -> np.ndarray:
    """Return a rendered scene's video as uint8 [T, H, W, 3]."""
    pixels = ((rendered.video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def _parsed(uri: str) -> _Several:
    parts = urlsplit(uri)
    try:
        if parts.scheme != "scenes" or parts.netloc or parts.path.strip("/"):
            raise ClipError(f"scenes uri {uri!r}: it must start with {SCHEME}?")
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        repeated = len(pairs) - len(dict(pairs))
        if repeated:
            raise ClipError(f"scenes uri {uri!r}: a key is given twice")
        return _Several(**dict(pairs))
    except ValidationError as error:
        raise ClipError(f"scenes uri {uri!r}: {_readable(error)}") from error


def _readable(error: ValidationError) -> str:
    """Return a pydantic error as one line that names the wrong key, its value and the valid keys."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "it"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}; use {', '.join(_Listed.model_fields)}")
        else:
            lines.append(f"{key}={item['input']!r}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
