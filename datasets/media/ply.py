"""Write point clouds as PLY: binary, little-endian, float32 x y z and uint8 red green blue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

VERTEX = np.dtype(
    [(axis, "<f4") for axis in ("x", "y", "z")] + [(colour, "u1") for colour in ("red", "green", "blue")]
)


def ply_file(points: np.ndarray, colours: np.ndarray, comments: Sequence[str] = ()) -> bytes:
    """Return points [N,3] and their colours uint8 [N,3] as a PLY file.

    comments: lines of the header. Raises ValueError for a comment of several lines.
    """
    split = [line for line in comments if len(line.splitlines()) > 1]
    if split:
        raise ValueError(f"the comment {split[0]!r} has more than one line; give them one by one")
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {_ascii(line)}" for line in comments)]
    header += [f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    vertices = np.empty(len(points), VERTEX)
    for number, axis in enumerate("xyz"):
        vertices[axis] = points[:, number]
    for number, colour in enumerate(("red", "green", "blue")):
        vertices[colour] = colours[:, number]
    return "\n".join([*header, "end_header", ""]).encode("ascii") + vertices.tobytes()


def _ascii(line: str) -> str:
    """Return a line as headers may have it: other signs as \\u escapes."""
    return line.encode("ascii", "backslashreplace").decode()
