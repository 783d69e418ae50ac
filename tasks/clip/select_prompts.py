"""What is meant in a clip: its entry of mask.select.prompts, else the prompt of the settings."""

from __future__ import annotations

from collections.abc import Mapping

import fsspec
import yaml
from pydantic import TypeAdapter, ValidationError

from recapture.conf.errors import UserError
from recapture.conf.select import SelectConfig, SelectPrompt
from recapture.datasets.clips.clip import Clip, ClipError
from recapture.models.selection.prompt import Point, Prompt
from recapture.tasks.engine.model_revision import once

_PROMPTS = TypeAdapter(dict[str, SelectPrompt])


def prompt_of(config: SelectConfig, clip_id: str) -> SelectPrompt | None:
    """Return what is meant in a clip; None if nothing is. Raises UserError for a file that cannot be read."""
    if config.prompts is not None:
        uri = config.prompts
        named = once(("select prompts", uri), lambda: read_prompts(uri)).get(clip_id)
        if named is not None:
            return named if named.given else None
    return config if config.given else None


def read_prompts(uri: str) -> Mapping[str, SelectPrompt]:
    """Return clip id -> prompt of a YAML or JSON file; raise UserError with the reason."""
    try:
        with fsspec.open(uri, "rb") as stream:
            return _PROMPTS.validate_python(yaml.safe_load(stream.read()))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(
            f"mask.select.prompts {uri!r}: {place}: {first['msg']}; write for example  "
            "bmx/003: {box: [120, 40, 60, 200], frame: 0}"
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"mask.select.prompts {uri!r} cannot be read: {reason}; give a YAML or JSON file"
        ) from error


def placed(prompt: SelectPrompt, clip: Clip, frames: range, size: tuple[int, int]) -> Prompt:
    """Return a prompt in pixels of the working size (height, width), and in frames of `frames`.

    Raises ClipError, naming the clip, for a frame that is not read and for what lies outside the picture.
    """
    where = f"clip {clip.id!r}: mask.select"
    if prompt.frame not in frames and (prompt.box is not None or prompt.points):
        raise ClipError(
            f"{where}.frame is {prompt.frame}, and the job reads frames {frames.start} to {frames.stop - 1}; "
            "point at one of these"
        )
    across, down = size[1] / clip.width, size[0] / clip.height
    box = prompt.box
    if box is not None:
        x, y, width, height = box
        inside = x < clip.width and y < clip.height and x + width > 0 and y + height > 0
        if width <= 0 or height <= 0 or not inside:
            raise ClipError(
                f"{where}.box {list(box)} covers nothing of the picture of {clip.width}x{clip.height}; give "
                "x, y, width, height in pixels of the clip"
            )
        right, below = min(x + width, clip.width), min(y + height, clip.height)
        left, above = max(x, 0.0), max(y, 0.0)
        box = left * across, above * down, (right - left) * across, (below - above) * down
    for x, y in (*prompt.points, *prompt.background):
        if not (0 <= x < clip.width and 0 <= y < clip.height):
            raise ClipError(
                f"{where}: the point {[x, y]} is outside the picture of {clip.width}x{clip.height}; give "
                "x, y in pixels of the clip"
            )

    def scaled(points: tuple[Point, ...]) -> tuple[Point, ...]:
        return tuple((x * across, y * down) for x, y in points)

    number = prompt.frame - frames.start if prompt.frame in frames else 0
    return Prompt(number, box, scaled(prompt.points), scaled(prompt.background), prompt.words)
