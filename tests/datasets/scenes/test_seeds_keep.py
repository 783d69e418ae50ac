"""What a seed draws and how it is rendered must not change: clips of every variety against stored numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from recapture.datasets.scenes.photographs import COUNTS, photographs
from recapture.datasets.scenes.sampling import Variety
from recapture.datasets.scenes.stream import SceneStream

STORED = Path(__file__).with_name("drawn_clips.json")


def drawn(variety: Variety) -> dict[str, Any]:
    """What identifies the clips of a draw, in numbers that round the same on every machine."""
    clips = SceneStream(range(6), variety=variety).draw(3, 4, 2, 24, 32)
    parts = clips.video.unflatten(-1, (4, 8)).unflatten(-3, (3, 8))  # [4, 2, 3, 3, 8, 4, 8]
    return {
        "captions": clips.captions,
        "colours": parts.mean((1, 4, 6)).flatten().tolist(),
        "depth": clips.depth.mean((1, 3)).flatten().tolist(),
        "ids": torch.bincount(clips.object_id.flatten(), minlength=8).tolist(),
        "cameras": clips.world_to_camera[:, -1, :3].flatten().tolist(),
    }


@pytest.mark.parametrize("variety", get_args(Variety))
def test_a_seed_draws_and_renders_what_it_always_did(variety: Variety) -> None:
    stored, found = json.loads(STORED.read_text())[variety], drawn(variety)
    assert found["captions"] == stored["captions"]
    assert sum(abs(a - b) for a, b in zip(found["ids"], stored["ids"])) <= 12  # float32 at silhouettes
    for name, tolerance in (("cameras", 1e-4), ("colours", 1e-2), ("depth", 5e-2)):
        torch.testing.assert_close(
            torch.tensor(found[name]), torch.tensor(stored[name]), rtol=tolerance, atol=tolerance
        )


def test_the_gallery_begins_with_the_photographs_of_wide_scenes() -> None:
    first, gallery = photographs(32), photographs(32, "gallery")
    assert torch.equal(gallery[: COUNTS["first"]], first) and len(gallery) == COUNTS["gallery"] > len(first)
    assert len({picture.float().mean().item() for picture in gallery}) == len(gallery)


if __name__ == "__main__":
    made = {variety: drawn(variety) for variety in get_args(Variety)}
    rounded = {
        variety: {
            name: [round(value, 5) if isinstance(value, float) else value for value in values]
            for name, values in fields.items()
        }
        for variety, fields in made.items()
    }
    STORED.write_text(json.dumps(rounded, indent=1) + "\n")
