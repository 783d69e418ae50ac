"""Turn decoded frames into what a player shows: rotated, square pixels, deinterlaced, without alpha."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np


def displayed(frame: Any, stream: Any) -> np.ndarray:
    """Return a decoded frame as uint8 RGB [H, W, 3] as a player shows it, transparency over black."""
    width = frame.width
    pixel = stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio
    if pixel and pixel != 1:
        width = max(1, round(width * pixel))
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba", width=width, height=frame.height)
        share = rgba[..., 3:].astype(np.uint16)
        pixels = ((rgba[..., :3] * share + 127) // 255).astype(np.uint8)
    else:
        pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    quarter_turns = round(frame.rotation / 90)  # counter-clockwise, as np.rot90 counts them
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def progressive(frames: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Yield as many frames without interlacing; if the first is interlaced, ffmpeg's yadif filters all."""
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        return
    if not first.interlaced_frame:
        yield first
        yield from remaining
        return
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream), graph.add("yadif", "deint=interlaced"), graph.add("buffersink")
    ).configure()
    for frame in itertools.chain([first], remaining, [None]):
        graph.push(frame)
        while True:
            try:
                yield graph.pull()
            except (BlockingIOError, av.error.EOFError):
                break
