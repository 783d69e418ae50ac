"""An endless stream of rendered clips from a pool of procedural scenes, drawn on the training device.

The order of random draws is the format: what a seed draws must not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.render import look_at, render_scene
from recapture.datasets.scenes.sampling import Variety, sample_scenes
from recapture.datasets.scenes.wide_scenes import CAMERA_LIMIT
from recapture.datasets.scenes.world_camera import path_cameras

_LATEST_START = 60.0  # frames
_CLEARANCE = 0.4  # scene units between a camera and the room


@dataclass(frozen=True)
class SceneClips:
    """B clips of T frames. Object id n is the body of the caption's n-th phrase, 0 is the room."""

    video: Tensor  # [B, T, 3, h, w] in [-1, 1]
    depth: Tensor  # [B, T, h, w] z-depth in scene units
    object_id: Tensor  # [B, T, h, w] int64
    intrinsics: Tensor  # [B, T, 3, 3] in pixels of the clip (of the crop, if there is one)
    world_to_camera: Tensor  # [B, T, 4, 4]
    times: Tensor  # [B, T] in frames of the scene
    scene_index: Tensor  # [B] int64 into the pool's seeds, on the CPU
    captions: list[str]  # B


class SceneStream:
    """A pool of random scenes on a device, and clips of them at random times from random cameras."""

    def __init__(
        self, seeds: Sequence[int], device: torch.device | str = "cpu", variety: Variety = "wide"
    ) -> None:
        """Sample the pool; raises ValueError without seeds or for an unknown variety."""
        if not seeds:
            raise ValueError("SceneStream: needs at least one seed")
        self.seeds = list(seeds)
        self.scenes: Scene = sample_scenes(self.seeds, variety=variety).to(device)

    @property
    def captions(self) -> tuple[str, ...]:
        """Return the caption of every scene of the pool, in the order of the seeds."""
        return self.scenes.captions

    @property
    def device(self) -> torch.device:
        """Return the device of the pool."""
        return self.scenes.room_low.device

    def draw(
        self,
        seed: int,
        count: int,
        frames: int,
        height: int,
        width: int,
        crop: tuple[int, int] | None = None,
        antialias: int = 2,
    ) -> SceneClips:
        """Render `count` clips of `frames` frames, each of a random scene of the pool.

        Scene, start time (0 to 60), pace (every frame, or in a quarter of the clips every second one), the
        camera's position, drift and zoom, and the crop's position depend only on `seed`: the same seed gives
        the same clips on the same machine. A crop (height, width) is a random window of the `height` x
        `width` view; only it is rendered, and the same seed without a crop gives the whole view.
        antialias: as in render_scene. Raises: ValueError for a crop larger than the view.
        """
        shown = crop or (height, width)
        if shown[0] > height or shown[1] > width:
            raise ValueError(f"SceneStream: crop {shown} does not fit into a view of {height} x {width}")
        generator = torch.Generator().manual_seed(seed)
        index = torch.randint(len(self.seeds), (count,), generator=generator)
        chance = torch.rand((count, 20), generator=generator, dtype=torch.float64)
        picked = index.tolist()
        device = self.device
        scenes = self.scenes.take(index.to(device), [self.scenes.captions[one] for one in picked])
        chance = chance.to(device)

        step = 1 + (chance[:, 0] < 0.25).double()
        elapsed = step[:, None] * torch.arange(frames, dtype=torch.float64, device=device)  # [B, T]
        times = chance[:, 1:2] * _LATEST_START + elapsed
        zoom = (0.9 + 0.25 * chance[:, 15])[:, None]
        if scenes.path is None:
            pose = _cameras(scenes, times, elapsed, chance[:, 2:15])
        else:
            pose, own_zoom = path_cameras(scenes, elapsed, chance[:, 2:15])
            zoom = zoom * own_zoom
        focal = zoom * max(height, width) / 2 / torch.tan(torch.deg2rad(scenes.lens[:, :1].double()) / 2)
        top = (chance[:, 16] * (height - shown[0] + 1)).floor()
        left = (chance[:, 17] * (width - shown[1] + 1)).floor()
        intrinsics = torch.zeros((count, frames, 3, 3), dtype=torch.float64, device=device)
        intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal
        intrinsics[..., 0, 2] = (width / 2 - left)[:, None]
        intrinsics[..., 1, 2] = (height / 2 - top)[:, None]
        intrinsics[..., 2, 2] = 1
        intrinsics, pose, times = (value.to(scenes.room_low) for value in (intrinsics, pose, times))
        views = render_scene(scenes, intrinsics, pose, times, *shown, antialias=antialias)
        return SceneClips(
            video=views.video,
            depth=views.depth,
            object_id=views.object_id,
            intrinsics=intrinsics,
            world_to_camera=pose,
            times=times,
            scene_index=index,
            captions=list(scenes.captions),
        )


def _cameras(scenes: Scene, times: Tensor, elapsed: Tensor, chance: Tensor) -> Tensor:
    """Return the scenes' cameras [B, T, 4, 4] at times [B, T], moved and drifting by chance [B, 13].

    About a third of the cameras do not drift. All stay inside the room, in front of the bodies.
    """
    camera, lens = scenes.camera.double(), scenes.lens.double()
    signed = 2 * chance - 1
    swing = torch.sin(2 * torch.pi * times / lens[:, 1:2])[..., None]  # [B, T, 1]
    strength = ((chance[:, 12:13] - 0.35) / 0.65).clamp_min(0)
    drift = elapsed[..., None] * strength[:, None]  # [B, T, 1]

    def moved(row: int, offset: Tensor, velocity: Tensor) -> Tensor:
        own = camera[:, None, row] + swing * camera[:, None, row + 2]
        return own + offset[:, None] + drift * velocity[:, None]

    position = moved(
        0,
        signed[:, 0:3] * camera.new_tensor([0.8, 0.4, 0.6]),
        signed[:, 3:6] * camera.new_tensor([0.045, 0.02, 0.035]),
    )
    target = moved(
        1,
        signed[:, 6:9] * camera.new_tensor([0.8, 0.35, 0.3]),
        signed[:, 9:12] * camera.new_tensor([0.05, 0.02, 0.0]),
    )
    low, high = scenes.room_low.double() + _CLEARANCE, scenes.room_high.double() - _CLEARANCE
    limit = torch.cat([high[:, :2], high[:, 2:].clamp_max(CAMERA_LIMIT)], dim=1)
    position = torch.minimum(torch.maximum(position, low[:, None]), limit[:, None])
    return look_at(position, target)
