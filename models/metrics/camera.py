"""Does the result follow the camera it was asked to follow? Pose of each frame from SIFT matches and PnP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.conf.turn import turn
from recapture.models.fill.view import SourceView
from recapture.models.metrics.features import Features, features_of, mutual_matches
from recapture.models.metrics.image import mean_over_frames
from recapture.models.metrics.luma import to_grey
from recapture.models.metrics.threads import over_threads

MIN_INLIERS = 12
MIN_INLIER_SHARE = 0.25
_POLISH_ROUNDS = 3
MAX_FRAMES = 24
GOOD_ROTATION = 2.0  # degrees
GOOD_TRANSLATION = 0.05  # of the pivot depth

Pose = tuple[np.ndarray, np.ndarray]  # rotation vector [3, 1], translation [3, 1]


@dataclass(frozen=True)
class CameraFollowing:
    """Pose errors of the frames that were tried; a frame that could not be registered is NaN."""

    frames: np.ndarray  # [n] the frames tried
    rotation: np.ndarray  # [n] degrees
    translation: np.ndarray  # [n] distance of the camera centres / pivot depth

    @property
    def success(self) -> float:
        """Return the share of the tried frames that could be registered."""
        return float(np.mean(~np.isnan(self.rotation)))

    @property
    def accuracy(self) -> float:
        """Return the share of tried frames within 2 degrees and 5 % of pivot depth; failures are wrong."""
        good = (self.rotation <= GOOD_ROTATION) & (self.translation <= GOOD_TRANSLATION)  # NaN compares False
        return float(np.mean(good))

    def scores(self) -> dict[str, float]:
        return {
            "rotation_error_deg": mean_over_frames(self.rotation),
            "translation_error": mean_over_frames(self.translation),
            "pose_success": self.success,
            "pose_accuracy": self.accuracy,
        }


def camera_following(
    result: Tensor,  # [T, 3, H, W] in [-1, 1]
    source: SourceView,
    intrinsics: Tensor,  # [T, 3, 3] of the target
    world_to_camera: Tensor,  # [T, 4, 4] of the target
    pivot_depth: float,
    *,
    max_frames: int = MAX_FRAMES,
) -> CameraFollowing:
    """Register result frames against the source frame each one shows, and compare with the cameras asked for.

    Both frames show one instant, so a moving scene does not disturb the pose: SIFT matches (mutual best,
    ratio test) are lifted with the source depth, and the target pose is solved by PnP in RANSAC, then
    refined on its inliers (OpenCV). Translation is metric in the source's depth and reported as a fraction
    of `pivot_depth`. A frame fails with fewer than 12 inliers, or fewer than 25 % of its matches; failures
    stay in `success` and `accuracy`. At most `max_frames` evenly spaced frames, the last included, are
    tried.

    Limits (measured elsewhere on 240x416): .02 degrees with true depth, .1 with 3 % depth noise, useless
    with 10 %. With the depth that the render was made from, the metric is partly circular: it sees whether
    the result follows the render's camera.
    """
    frames = tried_frames(len(result), max_frames)
    shown = ShownFrames(source, frames, intrinsics, world_to_camera, pivot_depth)
    rotation, translation = shown.pose_errors({"result": to_grey(result[frames])})["result"].T
    return CameraFollowing(frames, rotation, translation)


def tried_frames(count: int, max_frames: int = MAX_FRAMES) -> np.ndarray:
    """Return the frames [n] of a clip of so many that are registered: evenly spaced, the last included."""
    return np.unique(np.linspace(count - 1, 0, min(count, max_frames)).round().astype(int))


class ShownFrames:
    """What some frames of a view should show. Making it reads the device; looking for poses is CPU work."""

    def __init__(
        self,
        source: SourceView,
        frames: np.ndarray,  # [n] of the view
        intrinsics: Tensor,  # [T, 3, 3] of the target
        world_to_camera: Tensor,  # [T, 4, 4] of the target
        pivot_depth: float,
    ) -> None:
        shown = source.source_frame[torch.from_numpy(frames).to(source.source_frame.device)].tolist()
        self._grey = [np.asarray(to_grey(source.video[s])) for s in shown]
        self._depth = [source.depth[s].cpu().numpy() for s in shown]
        self._known = [source.known[s].cpu().numpy() for s in shown]
        self._source_cameras = [_cameras(source.intrinsics, source.world_to_camera, s) for s in shown]
        self._target_cameras = [_cameras(intrinsics, world_to_camera, t) for t in frames.tolist()]
        self._pivot_depth, self._device = pivot_depth, source.video.device

    def pose_errors(self, results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the errors [n, 2] of each result's luma frames [n, H, W]: degrees, share of pivot depth.

        NaN for a frame that could not be registered. Features are matched in a turn on the device, if that
        is a GPU; all else is done by as many threads as torch may use.
        """
        count = len(self._grey)
        others = [frame for grey in results.values() for frame in grey]
        found = features_of(self._grey, others)
        pairs = [(n % count, target) for n, target in enumerate(found[count:])]
        matches = self._matches([(found[n], target) for n, target in pairs])
        size = max((max(frame.shape) for frame in others), default=0)
        errors = over_threads(
            lambda of: self._pose_error(*of, size),
            [(n, found[n], target, match) for (n, target), match in zip(pairs, matches)],
        )
        array = np.array(errors, dtype=np.float64).reshape(len(results), count, 2)
        return dict(zip(results, array))

    def _matches(self, pairs: Sequence[tuple[Features, Features]]) -> list[np.ndarray]:
        if self._device.type == "cpu":
            return [mutual_matches(*pair, self._device) for pair in beating(pairs)]
        with turn():
            return [mutual_matches(*pair, self._device) for pair in beating(pairs)]

    def _pose_error(
        self, n: int, here: Features, there: Features, matches: np.ndarray, size: int
    ) -> tuple[float, float]:
        (source_intrinsics, source_pose), (intrinsics, wanted) = (
            self._source_cameras[n],
            self._target_cameras[n],
        )
        here_matched, there_matched = here.positions[matches[:, 0]], there.positions[matches[:, 1]]
        z = _depth_at(self._depth[n], self._known[n], here_matched)
        rays = np.c_[here_matched, np.ones(len(z))] @ np.linalg.inv(source_intrinsics).T
        usable = z > 0
        points = (rays * z[:, None])[usable]
        move = _registered(points, there_matched[usable], intrinsics, max(1.0, size / 320))
        if move is None:
            return float("nan"), float("nan")
        found = move @ source_pose
        # the chord, not the trace: acos loses all precision near zero
        chord = np.linalg.norm(found[:3, :3] - wanted[:3, :3]) / (2 * np.sqrt(2))
        centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in (found, wanted)]
        distance = np.linalg.norm(centres[0] - centres[1])
        return float(np.degrees(2 * np.arcsin(min(chord, 1.0)))), float(distance / self._pivot_depth)


def _cameras(intrinsics: Tensor, world_to_camera: Tensor, frame: int) -> tuple[np.ndarray, np.ndarray]:
    return intrinsics[frame].double().cpu().numpy(), world_to_camera[frame].double().cpu().numpy()


def _registered(
    points: np.ndarray,  # [n, 3] in the source camera, in the depth's units
    there: np.ndarray,  # [n, 2] pixels of the target
    target_intrinsics: np.ndarray,  # [3, 3]
    threshold: float,  # pixels
) -> np.ndarray | None:
    """Return the motion [4, 4] from source to target camera, in the depth's units; None if not found."""
    if len(points) < MIN_INLIERS:
        return None
    found, _, rotation, translation, inliers = cv2.solvePnPRansac(
        points, there, target_intrinsics.copy(), None, params=_robust_search(threshold)
    )
    if not found or inliers is None or len(inliers) < max(MIN_INLIERS, MIN_INLIER_SHARE * len(points)):
        return None
    chosen = inliers.ravel()
    pose = rotation, translation
    for _ in range(_POLISH_ROUNDS):
        pose = _polish(points[chosen], there[chosen], target_intrinsics, pose)
        distance = np.linalg.norm(_image(points, target_intrinsics, pose) - there, axis=1)
        chosen = np.flatnonzero(distance <= threshold)
        if len(chosen) < MIN_INLIERS:
            return None
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = cv2.Rodrigues(pose[0])[0], pose[1].ravel()
    return move


def _robust_search(threshold: float) -> cv2.UsacParams:
    """Run MAGSAC++ with local optimisation (OpenCV's USAC), from a fixed seed.

    Plain RANSAC counts inliers, and on a far wall the mirror image of the pose has nearly as many.
    """
    params = cv2.UsacParams()
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.loMethod = cv2.LOCAL_OPTIM_SIGMA
    params.sampler = cv2.SAMPLING_UNIFORM
    params.threshold, params.confidence, params.maxIterations = threshold, 0.9999, 5000
    params.randomGeneratorState = 0
    return params


def _polish(points: np.ndarray, there: np.ndarray, intrinsics: np.ndarray, pose: Pose) -> Pose:
    """Run Levenberg-Marquardt from this pose and from SQPnP's; return the one with the smaller error.

    On a scene that is nearly a plane the error has two minima, and the search may stop near the wrong one.
    """
    starts = [pose]
    found, rotation, translation = cv2.solvePnP(points, there, intrinsics, None, flags=cv2.SOLVEPNP_SQPNP)
    if found:
        starts.append((rotation, translation))
    ends: list[Pose] = [cv2.solvePnPRefineLM(points, there, intrinsics, None, *start) for start in starts]
    return min(ends, key=lambda end: float(((_image(points, intrinsics, end) - there) ** 2).sum()))


def _image(points: np.ndarray, intrinsics: np.ndarray, pose: Pose) -> np.ndarray:
    return np.asarray(cv2.projectPoints(points, *pose, intrinsics, None)[0]).reshape(-1, 2)


def _depth_at(depth: np.ndarray, known: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return z-depth [n] at points [n, 2], bilinear in 1/z; 0 if unknown or across an edge (5 %)."""
    height, width = depth.shape
    u = np.clip(points[:, 0] - 0.5, 0, width - 1)
    v = np.clip(points[:, 1] - 0.5, 0, height - 1)
    x, y = np.minimum(u.astype(int), width - 2), np.minimum(v.astype(int), height - 2)
    rows, columns = np.stack([y, y, y + 1, y + 1]), np.stack([x, x + 1, x, x + 1])
    corners = depth[rows, columns]
    usable = known[rows, columns] & np.isfinite(corners) & (corners > 0)
    disparity = np.where(usable, 1.0 / np.where(usable, corners, 1.0), 0.0)
    a, b = u - x, v - y
    weights = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
    smooth = (disparity.min(0) > 0) & (disparity.max(0) <= 1.05 * disparity.min(0))
    return np.where(smooth, 1.0 / np.where(smooth, (disparity * weights).sum(0), 1.0), 0.0)
