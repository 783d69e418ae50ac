"""Depth of whole videos: as many depths as frames, and no drift from window to window."""

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from support import tiny_video_depth

from recapture.models.depth.alignment import align_depth
from recapture.models.depth.video import VideoDepthEstimator, VideoSettings
from recapture.models.depth.video_sampling import FrameCondition, denoise_clip


@pytest.mark.parametrize("frames", [109, 110, 111, 195, 196])
def test_one_frame_more_than_a_window_has_as_many_depths_as_frames(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("video_depth")
    tiny_video_depth.save_tiny_video_depth(folder)
    video = torch.rand(frames, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    depth = VideoDepthEstimator(str(folder), settings=VideoSettings(steps=1)).estimate(video)
    assert depth.shape == (frames, 4, 4) and torch.isfinite(depth).all()
    assert len({tuple(one.flatten().tolist()) for one in depth}) == frames  # none is repeated


class Knowing(torch.nn.Module):
    """A UNet that denoises to the conditioning latents at once, whatever noise it is given (v-prediction)."""

    dtype = torch.float32

    def forward(self, given, timestep, embedding, *, added_time_ids, return_dict):
        sigma = math.exp(4 * float(timestep))
        noisy, known = given[0].split(4, dim=1)
        sample = noisy * math.sqrt(sigma**2 + 1)
        velocity = (known - sample / (sigma**2 + 1)) * -math.sqrt(sigma**2 + 1) / sigma
        return (velocity[None],)


@pytest.mark.parametrize(("window", "overlap"), [(7, 3), (10, 0), (6, 5)])
def test_the_depth_of_a_constant_wall_does_not_drift_over_three_windows(window, overlap):
    frames = 3 * window - 2 * overlap
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    wall = torch.full((1, 4, 6, 8), 0.4)
    wall[..., 4:] = 0.8  # half of it twice as near
    conditions = [FrameCondition(wall, torch.zeros(1, 12)) for _ in range(frames)]
    noise = torch.randn(window, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    model = SimpleNamespace(unet=Knowing(), scheduler=scheduler)
    latents = torch.cat(
        list(denoise_clip(model, conditions, noise, overlap=overlap, steps=5, noise_augmentation=0.02))
    )
    assert len(latents) == frames
    depth, _ = align_depth(latents.mean(1), "inverse", consistent=True)
    assert float((depth.std(0) / depth.mean(0)).max()) < 0.01
    assert float(depth[0, 0, 0] / depth[0, 0, 7]) == pytest.approx(10, rel=0.05)  # of what far_ratio makes it
