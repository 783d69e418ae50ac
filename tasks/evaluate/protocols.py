"""The published protocols, each as the code of its paper defines it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import fsspec

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.readers.dycheck_split import validation_views
from recapture.tasks.evaluate.protocol import Metric, Protocol, Published, Truth
from recapture.tasks.evaluate.videos import find_gcd, find_video, frames_of

_GCD = "arXiv 2405.14868; basilevh/gcd, gcd-model/scripts/test.py"
_GCD_TABLE = "README of basilevh/gcd, mean of the released checkpoint over the test set"
_GCD_METRICS = (
    Metric(
        "PSNR",
        True,
        2,
        "per frame over all pixels; mean over frames, then samples, then scenes",
    ),
    Metric("SSIM", True, 3, "scikit-image's default (uniform 7x7 window, per channel); means as PSNR"),
)
# fmt: off
_PARDOM = (48, 72, 74, 106, 165, 167, 173, 181, 294, 298, 310, 315, 337, 362, 365, 444, 581, 626, 651, 663)
# fmt: on
_DYCHECK = "arXiv 2210.13445; KAIR-BAIR/dycheck, dycheck/core/metrics/image.py"
_DYCHECK_TABLE = "docs/BENCHMARK.md of KAIR-BAIR/dycheck, iPhone, mean of 7 sequences"


def _rendered(folder: str, scene: str) -> list[Truth]:
    found = find_gcd(folder, scene, "_gt")
    return [Truth(scene, scene, lambda: ((frame, None) for frame in frames_of(found[0])))]


def _sampled(folder: str, scene: str) -> list[str]:
    return find_gcd(folder, scene, r"_pred_s\d+")


def _validation(root: str, sequence: str) -> list[Truth]:
    folder = f"{root.rstrip('/')}/{sequence}"
    fs, path = fsspec.core.url_to_fs(folder)
    if not fs.isdir(path):
        raise ClipError(f"there is no sequence {sequence} in {root!r}; unpack it there")
    views = validation_views(folder)
    return [Truth(f"{sequence}/camera{view.camera}", sequence, view.read) for view in views]


KUBRIC4D = Protocol(
    name="kubric4d",
    title="Kubric-4D, 20 test scenes of GCD, 14 frames of 384x256",
    paper=_GCD,
    scenes=tuple(f"scn{number:05d}" for number in range(2900, 2920)),
    metrics=_GCD_METRICS,
    published=(
        Published("GCD, max 90, gradual", {"PSNR": 17.88}, _GCD_TABLE),
        Published("GCD, max 90, direct", {"PSNR": 17.23}, _GCD_TABLE),
        Published("GCD, max 180, gradual", {"PSNR": 17.81}, _GCD_TABLE),
        Published("GCD, max 180, direct", {"PSNR": 16.65}, _GCD_TABLE),
    ),
    truths=_rendered,
    samples=_sampled,
    needs="the folder `extra` that GCD's scripts/test.py writes with --save_gt 1 for kubric_test20.txt and "
    "the controls of your setting; GCD renders the truth from merged point clouds, which recapture does not",
    frames=14,
    size=(256, 384),
)
PARDOM = Protocol(
    name="pardom",
    title="ParallelDomain-4D (RGB), 20 test scenes of GCD, 14 frames of 384x256",
    paper=_GCD,
    scenes=tuple(f"scene_{number:06d}" for number in _PARDOM),
    metrics=_GCD_METRICS,
    published=(
        Published("GCD, gradual", {"PSNR": 23.47}, _GCD_TABLE),
        Published("GCD, direct", {"PSNR": 23.32}, _GCD_TABLE),
    ),
    truths=_rendered,
    samples=_sampled,
    needs="the folder `extra` that GCD's scripts/test.py writes with --save_gt 1 for pardom_test20.txt; GCD "
    "renders the truth from merged point clouds, which recapture does not",
    frames=14,
    size=(256, 384),
)
DYCHECK = Protocol(
    name="dycheck",
    title="DyCheck iPhone, validation cameras of 7 sequences, co-visible pixels",
    paper=_DYCHECK,
    scenes=("apple", "block", "paper-windmill", "space-out", "spin", "teddy", "wheel"),
    metrics=(
        Metric("mPSNR", True, 2, "of the mean squared error over co-visible pixels; mean over frames, then "
               "over sequences"),
        Metric("mSSIM", True, 3, "Gaussian 11x11 window as a partial convolution, mean of the whole map; "
               "means as mPSNR"),
        Metric("mLPIPS", False, 3, "AlexNet, per pixel, both pictures black elsewhere, mean over co-visible "
               "pixels; means as mPSNR"),
    ),
    # The page prints another data set's mPSNR under iPhone, and no mSSIM.
    published=(
        Published("T-NeRF", {"mLPIPS": 0.379}, _DYCHECK_TABLE),
        Published("NSFF", {"mLPIPS": 0.396}, _DYCHECK_TABLE),
        Published("Nerfies", {"mLPIPS": 0.339}, _DYCHECK_TABLE),
        Published("HyperNeRF", {"mLPIPS": 0.332}, _DYCHECK_TABLE),
    ),
    truths=_validation,
    samples=lambda folder, name: [find_video(folder, name)],
    needs="the folder of DyCheck's iPhone sequences (apple/splits/val.json, apple/rgb, apple/covisible)",
)  # fmt: skip
BY_NAME: Mapping[str, Protocol] = MappingProxyType({one.name: one for one in (KUBRIC4D, PARDOM, DYCHECK)})
