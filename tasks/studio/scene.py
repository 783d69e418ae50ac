"""The scene of the viewer: the clip's points at a moment, the cameras of the source and of the new move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from recapture.models.geometry.cameras import invert_rigid
from recapture.tasks.studio.session import StudioSession

if TYPE_CHECKING:
    import viser
    from torch import Tensor

POINTS = 60_000  # of a cloud
SOURCE, NEW, KEY = (70, 130, 230), (230, 120, 30), (200, 40, 120)
SIZE = 0.08  # of a camera that is drawn, as a share of the pivot's depth


class Scene:
    """What the viewer draws of a session. Up is the first camera's up."""

    def __init__(self, server: viser.ViserServer, session: StudioSession) -> None:
        self._server, self._session, self._shown = server, session, -1
        self._drawn: viser.CameraFrustumHandle | None = None  # of the new camera
        first = invert_rigid(session.source.world_to_camera[0].double()).numpy()
        self.up, self._first = -first[:3, 1], first
        server.scene.set_up_direction(self.up)
        self._line("/source/path", session.source_path(), SOURCE)

    def look(self, camera: viser.CameraHandle, back: float = 0.6) -> None:
        """Place a viewport behind the first camera; back: how far, as a share of the pivot's depth."""
        depth, (right, ahead) = self._session.pivot, (self._first[:3, 0], self._first[:3, 2])
        centre = self._first[:3, 3]
        camera.up_direction = tuple(self.up)
        camera.position = tuple(centre - back * depth * ahead + 0.35 * depth * (self.up + right))
        camera.look_at = tuple(centre + depth * ahead)

    def through(self, camera: viser.CameraHandle, at: int) -> None:
        """Place a viewport in the new camera of a frame."""
        pose = invert_rigid(self._session.path.world_to_camera[at].double()).numpy()
        camera.up_direction = tuple(-pose[:3, 1])
        camera.position = tuple(pose[:3, 3])
        camera.look_at = tuple(pose[:3, 3] + self._session.pivot * pose[:3, 2])
        camera.fov = self._fov(self._session.path.intrinsics[at])
        if self._drawn is not None:
            self._drawn.visible = False  # until it is drawn anew; it would cover the view

    def show(self, at: int, picture: np.ndarray | None = None) -> None:
        """Draw the moment of a frame of the new video; picture: what the new camera sees, uint8 [h,w,3]."""
        session = self._session
        frame = int(session.path.source_frame[at])
        if frame != self._shown:
            points, colours = session.film.cloud(frame, POINTS)
            size = 0.004 * session.pivot
            self._server.scene.add_point_cloud(
                "/cloud", points, colours, point_size=size, point_shape="circle"
            )
            self._shown = frame
        cameras = session.source
        self._camera("/source/camera", cameras.world_to_camera[frame], cameras.intrinsics[frame], SOURCE)
        self._drawn = self._camera(
            "/new/camera", session.path.world_to_camera[at], session.path.intrinsics[at], NEW, picture
        )

    def show_path(self) -> None:
        """Draw the new path, and where its key frames are."""
        centres = invert_rigid(self._session.path.world_to_camera.double())[:, :3, 3].numpy()
        self._line("/new/path", centres, NEW)
        self._server.scene.add_point_cloud(
            "/new/keys", *self._keys(centres), point_size=0.02 * self._session.pivot
        )

    def _keys(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = [round(key["at"] * (len(centres) - 1)) for key in self._session.trajectory.keyframes or ()]
        return centres[at].astype(np.float32), np.tile(np.array(KEY, np.uint8), (len(at), 1))

    def _line(self, name: str, points: np.ndarray, colour: tuple[int, int, int]) -> None:
        pairs = np.stack([points[:-1], points[1:]], axis=1) if len(points) > 1 else np.zeros((1, 2, 3))
        self._server.scene.add_line_segments(name, pairs.astype(np.float32), colour, line_width=3)

    def _camera(
        self,
        name: str,
        world_to_camera: Tensor,
        lens: Tensor,
        colour: tuple[int, int, int],
        picture: np.ndarray | None = None,
    ) -> viser.CameraFrustumHandle:
        pose = invert_rigid(world_to_camera.double()).numpy()
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        width, height = self._session.source.content
        return self._server.scene.add_camera_frustum(
            name,
            fov=self._fov(lens),
            aspect=width / height,
            scale=SIZE * self._session.pivot,
            color=colour,
            image=picture,
            wxyz=(w, x, y, z),
            position=tuple(pose[:3, 3]),
        )

    def _fov(self, lens: Tensor) -> float:
        return float(2 * np.arctan(self._session.source.content[1] / 2 / float(lens[1, 1])))
