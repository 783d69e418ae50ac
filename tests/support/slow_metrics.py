"""The metrics by their definitions, frame by frame in float64 and result by result: what fast ones equal."""

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch.nn.functional import avg_pool2d

from recapture.models.geometry.backwarp import back_warp
from recapture.models.geometry.rasterize import render
from recapture.models.metrics.camera import _robust_search


def slow_scores(result, source, view, *, surface, truth, truth_depth, pivot_depth, seam_pixels):
    """Return every metric that has a value."""
    visible = view.visible.numpy()
    scores = {"hole_share": (~visible).mean()}
    if truth is not None:
        ring = slow_ring(visible, seam_pixels)
        regions = {"": None, "_visible": visible, "_hole": ~visible, "_seam": ring}
        for name, region in regions.items():
            scores[f"psnr{name}"] = mean([psnr(*pair) for pair in frames(result, truth, region)])
            scores[f"ssim{name}"] = mean([ssim(*pair) for pair in frames(result, truth, region)])
    shown = source.at(source.source_frame)
    warped = back_warp(
        *(shown.video, shown.depth, shown.known, shown.intrinsics, shown.world_to_camera),
        view.depth if truth_depth is None else truth_depth,
        *(view.intrinsics, view.world_to_camera),
    )
    inside = warped.co_visible.numpy()
    scores["coverage"] = inside.mean()
    scores["consistency_psnr"] = mean([psnr(*pair) for pair in frames(result, warped.video, inside)])
    scores |= slow_poses(result, source, view, pivot_depth)
    scores |= slow_sync(result, source, view, surface)
    scores |= slow_warp_error(result)
    grey, source_grey = luma(result), luma(source.video)
    scores["sharpness_ratio"] = mean([laplacian(f).var() for f in grey]) / mean(
        [laplacian(f).var() for f in source_grey]
    )
    scores["hole_sharpness_ratio"] = mean([hole_detail(f, seen) for f, seen in zip(grey, visible)])
    steps = (unit(result)[1:] - unit(result)[:-1]) if len(result) > 1 else np.array([np.nan])
    scores["flicker_static_only"] = 1 - np.abs(steps).mean()
    return {name: float(value) for name, value in scores.items() if not np.isnan(value)}


def unit(video):
    return (video.double().clamp(-1, 1).numpy().transpose(0, 2, 3, 1) + 1) / 2


def luma(video):
    return np.rint(unit(video) @ [0.299, 0.587, 0.114] * 255).astype(np.uint8)


def frames(result, truth, region):
    regions = [None] * len(result) if region is None else region
    return zip(unit(result), unit(truth), regions)


def mean(values):
    values = np.array(values, dtype=np.float64)
    kept = values[~np.isnan(values)]
    return kept.mean() if len(kept) else np.nan


def psnr(a, b, inside):
    error = ((a - b) ** 2).mean(-1)
    error = error.ravel() if inside is None else error[inside]
    return min(-10 * np.log10(max(error.mean(), 1e-12)), 100.0) if len(error) else np.nan


def ssim(a, b, inside):
    if inside is None:
        given = {"data_range": 1.0, "channel_axis": -1, "gaussian_weights": True, "sigma": 1.5}
        return structural_similarity(a, b, use_sample_covariance=False, **given)
    if not inside.any():
        return np.nan
    total = blur(inside.astype(float))

    def local(z):
        return blur(z * inside) / np.maximum(total, 1e-12)

    values = []
    for x, y in zip(a.transpose(2, 0, 1), b.transpose(2, 0, 1)):
        mx, my = local(x), local(y)
        vx, vy = (np.maximum(local(z * z) - m**2, 0) for z, m in ((x, mx), (y, my)))
        score = (2 * mx * my + 1e-4) * (2 * (local(x * y) - mx * my) + 9e-4)
        values.append((score / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))[inside].mean())
    return np.mean(values)


def blur(plane):
    return gaussian_filter(plane, 1.5, radius=5, mode="constant")


def slow_ring(visible, width):
    rings = []
    for seen in visible:
        apart = [
            cv2.distanceTransform(kind.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            for kind in (seen, ~seen)
        ]
        both = seen.any() and not seen.all()
        rings.append((np.maximum(*apart) <= width / 2) & both)
    return np.stack(rings)


def laplacian(frame):
    return cv2.Laplacian(frame, cv2.CV_64F)


def hole_detail(frame, seen):
    known, hole = (
        laplacian(frame)[cv2.erode(kind.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0]
        for kind in (seen, ~seen)
    )
    return hole.var() / known.var() if len(hole) and len(known) and known.var() > 0 else np.nan


def slow_warp_error(video):
    grey, colour, errors, lengths = luma(video), unit(video).astype(np.float32), [], []
    height, width = grey.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    for t in range(len(grey) - 1):
        there, back = (
            cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[a], grey[b], None)
            for a, b in ((t, t + 1), (t + 1, t))
        )
        u, v = x + there[..., 0], y + there[..., 1]
        back = cv2.remap(back, u, v, cv2.INTER_LINEAR)
        trusted = ((there + back) ** 2).sum(-1) < 0.01 * (there**2 + back**2).sum(-1) + 0.5
        trusted &= (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
        lengths.append(np.hypot(there[..., 0], there[..., 1]).mean())
        if trusted.any():
            warped = cv2.remap(colour[t + 1], u, v, cv2.INTER_LINEAR)
            errors.append(((colour[t] - warped) ** 2).mean(-1)[trusted].mean())
    return {"warp_error": np.mean(errors), "flow_px": np.mean(lengths)} if errors else {}


def slow_sync(result, source, view, surface, most=4, tried=16):
    count, shows = len(source.video), source.source_frame
    most = min(most, (count - 1) // 2)
    usable = torch.nonzero((shows >= most) & (shows < count - most)).flatten()
    if most < 1 or not len(usable):
        return {}
    chosen = usable[torch.linspace(0, len(usable) - 1, min(len(usable), tried)).round().long()]
    factor = max(1, -(-max(result.shape[2:]) // 160))
    height, width = (side // factor for side in result.shape[2:])
    pictures, visible = [], np.ones((len(chosen), height, width), dtype=bool)
    smaller = torch.tensor([1 / factor, 1 / factor, 1])[:, None]
    for offset in range(-most, most + 1):
        shown = source.at(shows[chosen] + offset)
        rows, columns = (factor * side for side in avg_pool2d(shown.video, factor).shape[2:])
        picked = (slice(None), slice(factor // 2, rows, factor), slice(factor // 2, columns, factor))
        seen = render(
            *(avg_pool2d(shown.video, factor), shown.depth[picked]),
            *(shown.intrinsics * smaller, shown.world_to_camera),
            *(view.intrinsics[chosen] * smaller, view.world_to_camera[chosen]),
            surface=surface,
            size=(height, width),
            known=shown.known[picked],
        )
        pictures.append(seen.video)
        visible &= seen.visible.numpy()
    change = [avg_pool2d((one - pictures[most]).abs().mean(1), 3, 1, 1).numpy() for one in pictures]
    moving = visible & (np.max(change, axis=0) / 2 > 0.05)
    small = avg_pool2d(result[chosen], factor)
    values = [mean([psnr(*pair) for pair in frames(small, one, moving)]) for one in pictures]
    if np.isnan(values).any():
        return {}
    best = int(np.argmax(values))
    margin = values[best] - np.delete(values, best).mean()
    found = {"sync_offset_frames": best - most, "sync_error_frames": abs(best - most)} if margin >= 1 else {}
    return {"sync_margin_db": margin} | found


def slow_poses(result, source, view, pivot_depth, tried=24):
    chosen = np.unique(np.linspace(len(result) - 1, 0, min(len(result), tried)).round().astype(int))
    errors = np.array([slow_pose(result, source, view, pivot_depth, t) for t in chosen])
    with np.errstate(invalid="ignore"):
        good = (errors[:, 0] <= 2) & (errors[:, 1] <= 0.05)
    return {
        "rotation_error_deg": mean(errors[:, 0]),
        "translation_error": mean(errors[:, 1]),
        "pose_success": (~np.isnan(errors[:, 0])).mean(),
        "pose_accuracy": good.mean(),
    }


def slow_pose(result, source, view, pivot_depth, t):
    s = int(source.source_frame[t])
    here, here_features = keypoints(luma(source.video[s : s + 1])[0])
    there, there_features = keypoints(luma(result[t : t + 1])[0])
    if min(len(here), len(there)) < 12:
        return np.nan, np.nan
    apart = torch.cdist(torch.from_numpy(here_features), torch.from_numpy(there_features)).numpy()
    pairs = []
    for i, row in enumerate(apart):
        nearest, second = np.argsort(row, kind="stable")[:2]
        if row[nearest] < 0.8 * row[second] and apart[:, nearest].argmin() == i:
            pairs.append((here[i], there[nearest], slow_depth(source, s, here[i])))
    pairs = [pair for pair in pairs if pair[2] > 0]
    if len(pairs) < 12:
        return np.nan, np.nan
    here, there, z = (np.array(values) for values in zip(*pairs))
    lens = view.intrinsics[t].double().numpy()
    points = np.c_[here, np.ones(len(here))] @ np.linalg.inv(source.intrinsics[s].double().numpy()).T
    points *= z[:, None]
    limit = max(1.0, max(result.shape[2:]) / 320)
    found, _, turn, shift, chosen = cv2.solvePnPRansac(
        points, there, lens.copy(), None, params=_robust_search(limit)
    )
    if not found or chosen is None or len(chosen) < max(12, 0.25 * len(here)):
        return np.nan, np.nan
    chosen = chosen.ravel()

    def off(pose, of=slice(None)):
        return np.linalg.norm(cv2.projectPoints(points[of], *pose, lens, None)[0][:, 0] - there[of], axis=1)

    for _ in range(3):
        ok, *other = cv2.solvePnP(points[chosen], there[chosen], lens, None, flags=cv2.SOLVEPNP_SQPNP)
        starts = [(turn, shift), *([other] if ok else [])]
        ends = [cv2.solvePnPRefineLM(points[chosen], there[chosen], lens, None, *start) for start in starts]
        turn, shift = min(ends, key=lambda pose: (off(pose, chosen) ** 2).sum())
        chosen = np.flatnonzero(off((turn, shift)) <= limit)
        if len(chosen) < 12:
            return np.nan, np.nan
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    pose, wanted = (
        move @ source.world_to_camera[s].double().numpy(),
        view.world_to_camera[t].double().numpy(),
    )
    chord = np.linalg.norm(pose[:3, :3] - wanted[:3, :3]) / np.sqrt(8)
    centres = [-one[:3, :3].T @ one[:3, 3] for one in (pose, wanted)]
    return np.degrees(2 * np.arcsin(chord)), np.linalg.norm(centres[0] - centres[1]) / pivot_depth


def keypoints(grey):
    factor = max(1, round(384 / max(grey.shape)))
    if factor > 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    points, features = cv2.SIFT.create(nfeatures=4000, contrastThreshold=0.02).detectAndCompute(grey, None)
    if features is None:
        return np.zeros((0, 2)), np.zeros((0, 128), dtype=np.float32)
    return (np.array([point.pt for point in points]) + 0.5) / factor, features


def slow_depth(source, s, point):
    height, width = source.depth.shape[1:]
    u, v = np.clip(point[0] - 0.5, 0, width - 1), np.clip(point[1] - 0.5, 0, height - 1)
    x, y = min(int(u), width - 2), min(int(v), height - 2)
    corners, weights = [], []
    for below in (0, 1):
        for right in (0, 1):
            z = float(source.depth[s, y + below, x + right])
            if not (bool(source.known[s, y + below, x + right]) and np.isfinite(z) and z > 0):
                return 0.0
            corners.append(1 / z)
            weights.append((1 - abs(u - x - right)) * (1 - abs(v - y - below)))
    return 1 / np.dot(corners, weights) if max(corners) <= 1.05 * min(corners) else 0.0
