"""Procedural clips whose camera travels, with exact depth, as folders of frames with cameras."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene


@dataclass
class Travelling:
    """A clip: scene, cameras float64 [T,...], frames uint8 [T,H,W,3], exact depth float64 [T,H,W]."""

    scene: Scene
    intrinsics: np.ndarray
    world_to_camera: np.ndarray
    rgb: np.ndarray
    depth: np.ndarray
    ids: np.ndarray

    def grey(self, frame):
        return cv2.cvtColor(self.rgb[frame], cv2.COLOR_RGB2GRAY)

    def save(self, folder):
        """Write folder/clip/000.png ... and folder/clip.cameras.npz."""
        (folder / "clip").mkdir(parents=True)
        for number, frame in enumerate(self.rgb):
            cv2.imwrite(str(folder / "clip" / f"{number:03d}.png"), frame[..., ::-1])
        cameras = {"intrinsics": self.intrinsics, "world_to_camera": self.world_to_camera}
        np.savez(folder / "clip.cameras.npz", **cameras)


def travelling(seed, frames, height, width, variety="classic", cameras=None):
    """Return a clip of a scene; cameras: world_to_camera [T,4,4] in place of the scene's own."""
    scene = sample_scene(seed, True, variety=variety)
    lens, own = source_cameras(scene, frames, height, width)
    poses = own if cameras is None else torch.from_numpy(cameras).float()
    seen = render_scene(scene, lens, poses, torch.arange(frames).float(), height, width)
    rgb = ((seen.video.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    return Travelling(
        scene,
        lens.double().numpy(),
        poses.double().numpy(),
        rgb,
        seen.depth.double().numpy(),
        seen.object_id.numpy(),
    )


def turning_about(first, degrees):
    """Return world_to_camera [T,4,4] that turns by `degrees` [T] about the first camera's place."""
    turned = []
    for angle in np.deg2rad(degrees):
        turn = np.eye(4)
        turn[0, 0] = turn[2, 2] = np.cos(angle)
        turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
        turned.append(turn @ first)
    return np.stack(turned)


def wavy(shape, rng, strength=0.1):
    """A smooth random factor [H,W] about 1: how the depth of a model errs."""
    waves = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), shape[1] / 12)
    return np.exp(strength * waves / waves.std())
