"""Pictures for people: contact sheets, visibility masks, a plot of the camera path."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (24, 24, 24)
INK = (235, 235, 235)
LABEL_WIDTH, LABEL_HEIGHT, GAP = 84, 18, 4


def contact_sheet(
    rows: Mapping[str, np.ndarray], columns: Sequence[str], *, cell_width: int = 208
) -> Image.Image:
    """Return a sheet with one labelled row per kind of picture and one column per frame.

    rows: label -> uint8 [n,H,W,3], all with the same n = len(columns).
    """
    height, width = next(iter(rows.values())).shape[1:3]
    cell_height = max(1, round(cell_width * height / width))
    sheet = Image.new(
        "RGB",
        (
            LABEL_WIDTH + len(columns) * (cell_width + GAP),
            LABEL_HEIGHT + len(rows) * (cell_height + GAP),
        ),
        BACKGROUND,
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in enumerate(columns):
        draw.text((LABEL_WIDTH + column * (cell_width + GAP) + 2, 1), title, INK, font=font)
    for row, (label, frames) in enumerate(rows.items()):
        top = LABEL_HEIGHT + row * (cell_height + GAP)
        draw.text((6, top + cell_height // 2 - 8), label, INK, font=font)
        for column, frame in enumerate(frames):
            resample = Image.Resampling.LANCZOS if cell_width < width else Image.Resampling.BICUBIC
            cell = Image.fromarray(frame).resize((cell_width, cell_height), resample)
            sheet.paste(cell, (LABEL_WIDTH + column * (cell_width + GAP), top))
    return sheet


def visibility_picture(visible: np.ndarray) -> np.ndarray:
    """Convert visible bool [...,H,W] to uint8 [...,H,W,3]: white is known, dark red is a hole."""
    return np.where(visible[..., None], np.uint8(255), np.array([96, 16, 16], dtype=np.uint8))


def spread_picture(spread: np.ndarray) -> np.ndarray:
    """Convert a map of spread, uint8 [...,H,W], to colours [...,H,W,3]: black for none, over red to white.

    It is brightened four times: a deviation of an eighth of the range is white.
    """
    shown = np.minimum(4 * spread.astype(np.int32), 255)
    levels = [np.clip(3 * shown - 255 * step, 0, 255) for step in range(3)]
    return np.stack(levels, axis=-1).astype(np.uint8)


def path_plot(
    source_world_to_camera: np.ndarray,
    target_world_to_camera: np.ndarray,
    hole_share: np.ndarray,
    pivot_depth: float,
    title: str,
) -> bytes:
    """Plot both camera paths ([T,4,4] each, scene units) and the hole share per frame [T]; return a PNG."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    above, beside, shares = figure.subplots(1, 3)
    for cameras, colour, label in (
        (source_world_to_camera, "tab:gray", "source"),
        (target_world_to_camera, "tab:orange", "recapture"),
    ):
        rotation = cameras[:, :3, :3].transpose(0, 2, 1)
        centre = -np.einsum("tij,tj->ti", rotation, cameras[:, :3, 3])
        forward = rotation[:, :, 2] * 0.15 * pivot_depth
        for axes, row in ((above, 2), (beside, 1)):
            axes.plot(centre[:, 0], centre[:, row], ".-", color=colour, label=label, markersize=3)
            for t in np.unique(np.linspace(0, len(cameras) - 1, 5).round().astype(int)):
                ends = np.stack([centre[t], centre[t] + forward[t]])
                axes.plot(ends[:, 0], ends[:, row], "-", color=colour, linewidth=1)
    for axes, vertical in ((above, "z, forward"), (beside, "y, down")):
        axes.set_xlabel("x, right")
        axes.set_ylabel(vertical)
        axes.axis("equal")
    beside.invert_yaxis()
    above.set_title("from above", fontsize=9)
    beside.set_title("from behind", fontsize=9)
    above.legend(fontsize=7)
    shares.plot(100 * hole_share)
    shares.set_xlabel("frame")
    shares.set_title("holes, % of the picture", fontsize=9)
    shares.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=10)
    return figure_png(figure)


def figure_png(figure: Figure) -> bytes:
    """Render a matplotlib figure to PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    """Encode a PIL image as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def spread(frames: int, count: int) -> np.ndarray:
    """Return at most `count` distinct frame indices from the first to the last."""
    return np.unique(np.linspace(0, frames - 1, min(count, frames)).round().astype(int))
