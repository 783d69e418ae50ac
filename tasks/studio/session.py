"""A studio session: one clip, the move that is being made, and the moves that were kept; no viewer."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import yaml
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.load import section_from
from recapture.conf.presets import AMOUNTS, AUTO
from recapture.conf.schema import RecaptureConfig
from recapture.conf.trajectory import TrajectoryConfig
from recapture.models.geometry.cameras import invert_rigid
from recapture.models.geometry.trajectories import CameraPath
from recapture.tasks.clip.camera_path import Source
from recapture.tasks.clip.item_path import ItemPath, item_path
from recapture.tasks.clip.source_cameras import pivot_depth
from recapture.tasks.clip.trajectory_file import find_trajectory_file
from recapture.tasks.jobs.render import surface_settings
from recapture.tasks.studio.filming import Film, Seen
from recapture.tasks.studio.key_pose import pose_of
from recapture.tasks.studio.opening import Opened, open_clip

ON_THE_WAY = ("mode", "easing", "freeze_frame", "time")  # settings that key frames keep of a preset


class StudioSession:
    """A clip, a current trajectory, and kept ones. Every change is checked as a setting of a job is.

    words: those that the settings came from, for `command`. Not safe for use from several threads at once.
    """

    def __init__(self, config: RecaptureConfig, opened: Opened, words: Sequence[str] = ()) -> None:
        self.config, self._words = config, tuple(words)
        self._params, self._stage, self._inputs = opened.params, opened.stage, opened.inputs
        self.source = Source.of(opened.params.clip, opened.inputs)
        self.film = Film(opened.stage, self.source, opened.inputs)
        self.kept: dict[str, TrajectoryConfig] = {}
        self.trajectory = TrajectoryConfig(preset="static")
        self._planned = self._plan(self.trajectory)

    @classmethod
    def open(cls, config: RecaptureConfig, clip: str | None = None, words: Sequence[str] = ()) -> Self:
        """Open a clip of a dataset, its first one by default. Raises UserError."""
        return cls(config, open_clip(config, clip), words)

    @property
    def clip(self) -> str:
        """Return the clip's name."""
        return self._params.clip.id

    @property
    def pivot(self) -> float:
        """Return the depth of the pivot in the first frame."""
        return pivot_depth(self._inputs)

    @property
    def path(self) -> CameraPath:
        """Return the current cameras; lenses are of the working size."""
        return self._planned.path

    @property
    def frames(self) -> int:
        """Return how many frames the new video has."""
        return len(self.path.source_frame)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return what was found of the current path: of amount auto the amount and what it does."""
        return self._planned.metrics

    def set(self, trajectory: Mapping[str, Any] | TrajectoryConfig) -> None:
        """Make a trajectory the current one; nothing changes if it cannot be used. Raises UserError."""
        checked = section_from(TrajectoryConfig, trajectory)
        self._planned, self.trajectory = self._plan(checked), checked

    def set_preset(self, preset: str, amount: float | None = None, **more: Any) -> None:
        """Make a preset of an amount (degrees, or a share of the pivot's depth) the current move.

        more: further settings of a trajectory, such as mode, easing, time, subject. Raises UserError.
        """
        given = {} if amount is None else {AMOUNTS.get(preset) or "distance": amount}
        self.set({"preset": preset, **given, **more})

    def safe_amount(self) -> float:
        """Return the largest amount of the current preset within `bound`, as `amount: auto` finds it.

        Raises UserError for a trajectory without an amount, and where no amount is within the bound.
        """
        preset = self.trajectory.preset
        if preset is None or AMOUNTS[preset] is None:
            raise UserError(f"{self.trajectory.label}: a safe amount is for a preset with an amount")
        search = self.trajectory.model_copy(update={str(AMOUNTS[preset]): None, "amount": AUTO})
        return self._plan(search).metrics["amount"]

    def add_key_frame(self, at: int, world_to_camera: Tensor, focal: float = 1.0) -> dict[str, float]:
        """Add a key at the frame `at` of the new video, or replace the one there; return it.

        world_to_camera: [4,4] of a camera placed by hand. Another move becomes one of key frames.
        Raises UserError for a camera beyond the pivot and for a move relative to a subject.
        """
        if self.trajectory.subject is not None:
            raise UserError("key frames placed by hand turn about no subject; take the subject away first")
        if not 0 <= at < self.frames:
            raise UserError(f"a key frame at {at}: the new video has frames 0 to {self.frames - 1}")
        kept = self.trajectory.model_dump(mode="json", include=set(ON_THE_WAY), exclude_unset=True)
        if self.trajectory.keyframes is not None and self.trajectory.interpolation != "spline":
            kept["interpolation"] = self.trajectory.interpolation
        own = self._plan(TrajectoryConfig(preset="static", time=self.trajectory.time, **self._frozen())).path
        try:
            pose = pose_of(world_to_camera.double() @ invert_rigid(own.world_to_camera[at]), self.pivot)
        except ValueError as error:
            raise UserError(str(error)) from None
        key = {"at": at / max(1, self.frames - 1), **pose, **({} if focal == 1 else {"focal": focal})}
        others = [dict(one) for one in self.trajectory.keyframes or () if one["at"] != key["at"]]
        kept.pop("easing", None)  # it would move the key to another frame
        self.set({"keyframes": sorted([*others, key], key=lambda one: one["at"]), **kept})
        return key

    def remove_key_frame(self, number: int) -> None:
        """Remove one key frame; without any the camera stays with the source's. Raises UserError."""
        keys = list(self.trajectory.keyframes or ())
        if not 0 <= number < len(keys):
            raise UserError(f"there is no key frame {number}; the move has {len(keys)}")
        del keys[number]
        if keys:
            self.set(self.trajectory.model_copy(update={"keyframes": tuple(keys)}))
        else:
            self.set_preset("static")

    def frame(self, at: int, side: int | None = None) -> Seen:
        """Return a frame of the new video; side: shorter side in pixels, about; None: the working size."""
        return self.film.frame(self.path, at, 1 if side is None else self.film.step_for(side))

    def hole_shares(self, side: int | None = None) -> Iterator[float]:
        """Yield the share of each frame of the new video that is a hole."""
        path = self.path
        for at in range(len(path.source_frame)):
            yield self.film.frame(path, at, 1 if side is None else self.film.step_for(side)).hole_share

    def keep(self, name: str | None = None) -> str:
        """Keep the current move under a name, or its label, for export and for the job; return the label."""
        kept = self.trajectory
        if name is not None:
            kept = section_from(TrajectoryConfig, kept.model_dump(exclude_unset=True) | {"name": name})
        self.kept[kept.label] = kept
        return kept.label

    @property
    def chosen(self) -> tuple[TrajectoryConfig, ...]:
        """Return the kept moves; without any, the current one."""
        return tuple(self.kept.values()) or (self.trajectory,)

    def settings(self) -> str:
        """Return the chosen moves as YAML that a job reads with --dataset FILE."""
        moves = [_plain(one) for one in self.chosen]
        return yaml.safe_dump({"trajectories": moves}, sort_keys=False)

    def command(self, *, whole: bool) -> list[str]:
        """Return the words of a job of the chosen moves for this clip, or for the whole dataset."""
        moves = yaml.safe_dump(
            [_plain(one) for one in self.chosen], default_flow_style=True, width=10**6, sort_keys=False
        )
        one_clip = [] if whole else [f"--dataset.where={glob.escape(self.clip)}"]
        return ["recapture", "run", *self._words, *one_clip, f"--trajectories={moves.strip()}"]

    def command_line(self, *, whole: bool) -> str:
        """Return `command` as a line for a shell."""
        return shlex.join(self.command(whole=whole))

    def _frozen(self) -> dict[str, Any]:
        frozen = self.trajectory.mode == "bullet_time"
        return {"mode": "bullet_time", "freeze_frame": self.trajectory.freeze_frame} if frozen else {}

    def _plan(self, trajectory: TrajectoryConfig) -> ItemPath:
        file = find_trajectory_file(trajectory, self.config.store)
        params = replace(self._params, trajectory=trajectory, file=file)
        try:
            return item_path(params, self._inputs, surface_settings(self._stage.config))
        except ValueError as error:
            raise UserError(str(error)) from None

    def source_path(self) -> np.ndarray:
        """Return the source's camera positions [T,3] in the world."""
        return invert_rigid(self.source.world_to_camera.double())[:, :3, 3].numpy()


def _plain(trajectory: TrajectoryConfig) -> dict[str, Any]:
    return trajectory.model_dump(mode="json", exclude_defaults=True)
