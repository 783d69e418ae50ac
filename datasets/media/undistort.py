"""Undistort pictures, so that a pinhole camera describes them."""

from __future__ import annotations

import cv2
import numpy as np


class Undistortion:
    """A resampling of pictures to what a pinhole camera with the same intrinsics would have taken.

    intrinsics [T, 3, 3] in pixels of pictures of this width; distortion [T, 4] or [T, 8]: OpenCV's
    k1 k2 p1 p2 (k3 k4 k5 k6), or k1 k2 k3 k4 of its fisheye model. Maps may differ in size, not in aspect.
    """

    def __init__(self, intrinsics: np.ndarray, distortion: np.ndarray, width: int, fisheye: bool) -> None:
        self._intrinsics, self._distortion = intrinsics, distortion
        self._width, self._fisheye = width, fisheye
        self._cached: tuple[bytes, np.ndarray, np.ndarray] | None = None

    def picture(self, frame: int, picture: np.ndarray) -> np.ndarray:
        """Return the undistorted uint8 picture [H, W, 3], black where the lens saw nothing."""
        x, y = self._seen_at(frame, *picture.shape[:2])
        return cv2.remap(picture, x, y, cv2.INTER_LINEAR)

    def map(self, frame: int, values: np.ndarray) -> np.ndarray:
        """Return the undistorted map [H, W] of the same type, 0 or False where the lens saw nothing."""
        x, y = self._seen_at(frame, *values.shape)
        return cv2.remap(values.astype(np.float64), x, y, cv2.INTER_NEAREST).astype(values.dtype)

    def _seen_at(self, frame: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the distorted position of each undistorted pixel, in OpenCV's pixels (centres at 0)."""
        lens, terms = self._intrinsics[frame], self._distortion[frame]
        key = lens.tobytes() + terms.tobytes() + bytes(str((height, width)), "ascii")
        if self._cached is None or self._cached[0] != key:
            matrix = lens * np.array([[width / self._width], [width / self._width], [1.0]])
            matrix[:2, 2] -= 0.5
            rectify = cv2.fisheye.initUndistortRectifyMap if self._fisheye else cv2.initUndistortRectifyMap
            maps = rectify(matrix, terms, np.eye(3), matrix, (width, height), cv2.CV_32FC1)
            self._cached = (key, *maps)
        return self._cached[1:]
