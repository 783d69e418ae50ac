"""Holes filled by a diffusion base of the Wan family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recapture.models.fill.compositing import Compositing
from recapture.models.fill.packed import (
    Candidate,
    FinishedView,
    Packing,
    packed_frames,
    packed_in,
    packing_candidates,
)
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.fill.windows import join_windows, windows
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.wan.conditioning import condition, grey_holes
from recapture.models.wan.footprint import ClipSize
from recapture.models.wan.load import Base
from recapture.models.wan.packing import pack
from recapture.models.wan.padding import padded
from recapture.models.wan.sampling import EXACT, OnStep, Solver, sample
from recapture.models.wan.schedulers import SchedulerName, make_scheduler
from recapture.models.wan.step_cache import Saving
from recapture.models.wan.text import Text, encode_text
from recapture.models.wan.vae import decode_latents

# Makes the solver of one window from the base, its video [T, 3, H, W] (grey in holes) and visible [T, H, W]
MakeSolver = Callable[[Base, Tensor, Tensor], Solver]


@dataclass(frozen=True)
class Filled:
    """A filled clip, with and without its known pixels put back."""

    video: Tensor  # [T, 3, H, W] in [-1, 1]
    unpasted: Tensor  # [T, 3, H, W] in [-1, 1], as the base decodes it
    packed: tuple[tuple[Candidate, ...], ...] = ()  # of each window, what was shown beside it


@dataclass(frozen=True)
class DiffusionFiller:
    """A base, behind the `Filler` interface: the caption is the prompt, the seed draws the noise.

    window, overlap: longer clips are cut into windows of `window` = 4n+1 frames that share `overlap` and are
    cross-faded; every window starts from the same noise. None: the clip is one window, for
    callers that cut it themselves. A clip of one window is padded to 4n+1 with its last frame, and frames to
    the base's multiple (see `padding.py`); both are cut again.
    noise_scale: of the initial noise; below 1, samples keep nearer to their mean, calmer and less detailed.
    compositing: how known pixels are put back. make_solver: holds each
    window to its known pixels while it is sampled; a text-to-video base needs one, since it is shown nothing
    else of the clip (ValueError). saving: passes through the transformer that are left out.
    packing: what `fill_both` takes from the trajectories that it is given;
    surface: how it renders them to find what they show of the holes.
    """

    base: Base
    surface: SurfaceSettings
    steps: int
    guidance_scale: float
    negative_prompt: str
    scheduler: SchedulerName
    shift: float
    noise_scale: float
    compositing: Compositing
    guidance_scale_2: float | None = None  # of Wan2.2's second transformer; None: as the first's
    window: int | None = None
    overlap: int = 0
    make_solver: MakeSolver | None = None
    on_step: OnStep | None = None
    packing: Packing | None = None
    saving: Saving = EXACT

    def __post_init__(self) -> None:
        if self.base.layout == "t2v" and self.make_solver is None:
            raise ValueError("fill: a text-to-video base sees nothing of the clip; give it a solver")

    def fill(self, view: RenderedView, source: SourceView, *, caption: str, seed: int) -> Tensor:
        """Fill the view [T, 3, H, W], its known pixels put back."""
        del source
        return self.fill_both(view, caption=caption, seed=seed).video

    def fill_both(
        self,
        view: RenderedView,
        *,
        caption: str,
        seed: int,
        packed: Sequence[FinishedView] = (),
        kept: Tensor | None = None,  # [T, H, W] bool
        reference: Tensor | None = None,  # [3, h, w]
    ) -> Filled:
        """Fill the view, with and without its known pixels put back, on the view's device.

        kept: the known pixels that are put back (see `kept_pixels`); None: all. Others only guide the base.
        reference: a picture of what is in the clip, of any size, which a VACE base is shown besides.
        packed: earlier trajectories of the clip, of its size, that this one is to agree with; of each window,
        chosen frames of the same moments are shown to the base (see `packing.pack`).
        """
        guided = self.guidance_scale > 1
        text = encode_text(self.base, caption, self.negative_prompt if guided else None)
        frames = len(view.video)
        whole = frames + (1 - frames) % 4
        overlap = self.overlap if self.window else 0
        spans = windows(frames, self.window or whole, overlap)
        chosen: tuple[tuple[Candidate, ...], ...] = ((),) * len(spans)
        if self.packing is not None:
            candidates = packing_candidates(packed, view, self.surface) if self.packing.frames else []
            chosen = tuple(packed_in(candidates, self.packing, span) for span in spans)
        filled = (
            self._fit_window(
                view.video[span.indices()],
                view.visible[span.indices()],
                reference,
                text,
                seed,
                packed_frames(packed, beside),
                [candidate.time - span.start for candidate in beside],
            )
            for span, beside in zip(spans, chosen)
        )
        unpasted = torch.cat(list(join_windows(spans, filled, overlap)))
        kept = view.visible if kept is None else kept
        return Filled(self.compositing(unpasted, view.video, kept), unpasted, chosen)

    def fill_seeds(
        self,
        view: RenderedView,
        *,
        caption: str,
        seeds: Sequence[int],
        kept: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> list[Filled]:
        """Fill a view of one window once per seed, as a batch: `fill_both` of each, but for rounding.

        make_solver must draw a noise of its own for each sample. Memory is for the caller to care for.
        """
        text = encode_text(self.base, caption, self.negative_prompt if self.guidance_scale > 1 else None)
        frames = len(view.video)
        (span,) = windows(frames, frames + (1 - frames) % 4, 0)
        if self.base.memory is not None:
            self.base.memory.fit(ClipSize(len(span.indices()), *view.video.shape[2:]))
        shown = (view.video[span.indices()], view.visible[span.indices()])
        kept = view.visible if kept is None else kept
        filled = []
        for one in self._sampled(*shown, reference, text, seeds, None, []):
            unpasted = torch.cat(list(join_windows([span], [one], 0)))
            filled.append(Filled(self.compositing(unpasted, view.video, kept), unpasted))
        return filled

    def _fit_window(self, video: Tensor, *given: Any) -> Tensor:
        """Fill a window where the base has room; if memory runs out, once more with less on the GPU."""
        placing = self.base.memory
        if placing is None:
            return self._fill_window(video, *given)
        placing.fit(ClipSize(len(video), video.shape[2], video.shape[3], packed=len(given[-1])))
        try:
            return self._fill_window(video, *given)
        except torch.OutOfMemoryError:
            if not placing.step_down():
                raise
        return self._fit_window(video, *given)

    def _fill_window(
        self,
        video: Tensor,
        visible: Tensor,
        reference: Tensor | None,
        text: Text,
        seed: int,
        finished: Tensor | None,  # [K, 3, H, W] frames to pack
        times: Sequence[int],  # [K] the window's frames of the same moments
    ) -> Tensor:
        return self._sampled(video, visible, reference, text, (seed,), finished, times)[0]

    def _sampled(
        self,
        video: Tensor,
        visible: Tensor,
        reference: Tensor | None,
        text: Text,
        seeds: Sequence[int],
        finished: Tensor | None,
        times: Sequence[int],
    ) -> list[Tensor]:
        """Return a video [T, 3, H, W] per seed."""
        base, (height, width) = self.base, video.shape[2:]
        known = padded(base, visible).to(base.device)
        shown = grey_holes(padded(base, video).to(base.device), known)
        conditioning = condition(base, shown, known, reference)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.cat([torch.randn(1, *conditioning.latent_shape, generator=one) for one in generators])
        if finished is not None and self.packing is not None:
            positions = self.packing.positions
            beside = padded(base, finished)
            conditioning = pack(
                base, conditioning, beside, times, positions=positions, generator=generators[0]
            )
        latents = sample(
            base,
            conditioning,
            text,
            scheduler=make_scheduler(self.scheduler, self.shift),
            steps=self.steps,
            generator=generators[0],
            latents=self.noise_scale * noise,
            guidance_scale=self.guidance_scale,
            guidance_scale_2=self.guidance_scale_2,
            solver=None if self.make_solver is None else self.make_solver(base, shown, known),
            saving=self.saving,
            on_step=self.on_step,
        )
        filled = (decode_latents(base.vae, one[None])[0, ..., :height, :width] for one in latents)
        return [one.to(video.device, video.dtype) for one in filled]
