"""The studio in a browser: panels of viser over a session. All that they do is done by the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from recapture.conf.errors import UserError
from recapture.conf.presets import AMOUNTS, DEFAULTS
from recapture.conf.redact import without_credentials
from recapture.conf.yaml_text import load_yaml
from recapture.models.geometry.cameras import rigid
from recapture.tasks.studio.export import DIALECTS, default_target, export
from recapture.tasks.studio.painter import Painter
from recapture.tasks.studio.scene import Scene
from recapture.tasks.studio.session import StudioSession

if TYPE_CHECKING:
    import viser

KEYS, AS_IT_IS = "key frames", "as the clip"
MODES = ("gradual", "direct", "bullet_time")
TIMES = (AS_IT_IS, "forward", "reverse", "bounce", "freeze")


class Viewer:
    """A server of one session, to be used as a context manager. start: starts a job with these words."""

    def __init__(
        self,
        session: StudioSession,
        server: viser.ViserServer,
        start: Callable[[list[str]], str],
        side: int = 240,
    ) -> None:
        self.session, self.server, self._start, self._side = session, server, start, side
        self.painter = Painter(self._say)
        self.scene = Scene(server, session)
        self._quiet = False  # while the panels are set from the session
        self._build()
        server.on_client_connect(lambda client: self.scene.look(client.camera))
        self._do("path", self._refresh)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.painter.close()
        self.server.stop()

    def _do(self, name: str, work: Callable[[], None]) -> None:
        self.painter.ask(name, work)

    def _say(self, text: str) -> None:
        self.message.content = f"**{text}**" if text else ""

    def _build(self) -> None:
        gui = self.server.gui
        self.picture = gui.add_image(np.full((9, 16, 3), 128, np.uint8), label="New camera")
        self.holes = gui.add_markdown("")
        self.time = gui.add_slider("Frame", 0, max(1, self.session.frames - 1), 1, 0)
        self.time.on_update(lambda _: self._do("frame", self._paint))
        self.exact = gui.add_checkbox("At the working size", False)
        self.exact.on_update(lambda _: self._do("frame", self._paint))
        gui.add_button("Holes of all frames").on_click(lambda _: self._do("holes", self._all_holes))
        self.message = gui.add_markdown("")
        with gui.add_folder("Move"):
            self._build_move(gui)
        with gui.add_folder("Key frames"):
            gui.add_button("Key from this viewport").on_click(self._add_key)
            gui.add_button("Look through the new camera").on_click(self._look_through)
            gui.add_button("Remove the last key").on_click(lambda _: self._do("key", self._remove_key))
        with gui.add_folder("Export"):
            self.dialect = gui.add_dropdown("Dialect", DIALECTS, initial_value="yaml")
            self.target = gui.add_text("File", default_target(self.session, "yaml"))
            self.dialect.on_update(lambda _: self._name_target())
            gui.add_button("Write").on_click(lambda _: self._do("export", self._export))
        with gui.add_folder("Job"):
            gui.add_button("Keep this move").on_click(lambda _: self._do("keep", self._keep))
            self.kept = gui.add_markdown("Kept: none; a job films the current move")
            gui.add_button("Show the command").on_click(lambda _: self._do("show", self._show_command))
            gui.add_button("Film this clip").on_click(lambda _: self._do("job", lambda: self._job(False)))
            gui.add_button("Film the dataset").on_click(lambda _: self._do("job", lambda: self._job(True)))

    def _build_move(self, gui: viser.GuiApi) -> None:
        self.preset = gui.add_dropdown("Preset", (*AMOUNTS, KEYS), initial_value="static")
        self.amount = gui.add_number(
            "Amount", 0.0, step=0.01, hint="Degrees, or a share of the pivot's depth"
        )
        self.safe = gui.add_button("Largest safe amount", hint="As amount: auto finds it, within bound")
        self.mode = gui.add_dropdown("Mode", MODES, initial_value="gradual")
        self.easing = gui.add_dropdown("Easing", ("linear", "smooth"), initial_value="linear")
        self.moments = gui.add_dropdown("Time", TIMES, initial_value=AS_IT_IS)
        self.speed = gui.add_number("Speed", 1.0, min=0.05, max=20.0, step=0.05)
        self.subject = gui.add_text("Subject", "", hint="YAML, such as {point: [0.5, 0.5]}; empty: none")
        self.preset.on_update(lambda _: self._choose())
        for one in (self.amount, self.mode, self.easing, self.moments, self.speed, self.subject):
            one.on_update(lambda _: self._change())
        self.safe.on_click(lambda _: self._do("safe", self._safe))

    def _choose(self) -> None:
        """Give a preset that was chosen its default amount."""
        if self._quiet or self.preset.value == KEYS:
            return
        self._quiet = True
        self.amount.value = DEFAULTS.get(AMOUNTS[self.preset.value] or "", 0.0)
        self._quiet = False
        self._change()

    def _change(self) -> None:
        if not self._quiet:
            self._do("move", self._apply)

    def _apply(self) -> None:
        """Make the panel's move the session's."""
        more = self._more()
        if self.preset.value == KEYS:
            keys = self.session.trajectory.keyframes
            if keys is None:
                raise UserError("there is no key frame yet; place the viewport and take a key from it")
            self.session.set({"keyframes": keys, **more})
        else:
            amount = None if AMOUNTS[self.preset.value] is None else self.amount.value
            self.session.set_preset(self.preset.value, amount, **more)
        self._say("")
        self._refresh()

    def _more(self) -> Mapping[str, Any]:
        more: dict[str, Any] = {"mode": self.mode.value, "easing": self.easing.value}
        if self.moments.value != AS_IT_IS:
            fast = {} if self.moments.value == "freeze" else {"speed": self.speed.value}
            more["time"] = {"mode": self.moments.value, **fast}
        if self.subject.value.strip():
            more["subject"] = load_yaml(self.subject.value)
        return more

    def _safe(self) -> None:
        self._say("searching for the largest safe amount …")
        found = self.session.safe_amount()
        self._quiet = True
        self.amount.value = found
        self._quiet = False
        self._apply()
        self._say(f"largest safe amount: {found:.4g}")

    def _refresh(self) -> None:
        """Draw the path anew, and the frame of the slider."""
        self.time.max = max(1, self.session.frames - 1)
        if self.time.value >= self.session.frames:
            self.time.value = self.session.frames - 1
        self.scene.show_path()
        self._name_target()
        self._paint()

    def _paint(self) -> None:
        at = min(int(self.time.value), self.session.frames - 1)
        seen = self.session.frame(at, None if self.exact.value else self._side)
        self.picture.image = seen.picture
        self.scene.show(at, seen.picture)
        size = "the working size" if seen.step == 1 else f"1/{seen.step} of the working size"
        shown = int(self.session.path.source_frame[at])
        self.holes.content = f"Holes **{seen.hole_share:.1%}** at {size}; frame {shown} of the clip"

    def _all_holes(self) -> None:
        shares = list[float]()
        for share in self.session.hole_shares(None if self.exact.value else self._side):
            shares.append(share)
            self._say(f"holes: {len(shares)} of {self.session.frames} frames")
            if self.painter.wanted:
                self._say("holes of all frames: left for a newer request")
                return
        worst = int(np.argmax(shares))
        self._say(f"holes: {np.mean(shares):.1%} on average, {shares[worst]:.1%} at most (frame {worst})")

    def _add_key(self, event: viser.GuiEvent) -> None:
        client = event.client
        if client is None:
            return
        w, x, y, z = client.camera.wxyz  # OpenCV axes: x right, y down, z forward
        turned = torch.from_numpy(Rotation.from_quat([x, y, z, w]).as_matrix())
        centre = torch.tensor(np.asarray(client.camera.position, dtype=np.float64))
        placed = rigid(turned.T, -(turned.T @ centre))
        self._do("key", lambda: self._place_key(placed))

    def _place_key(self, placed: torch.Tensor) -> None:
        key = self.session.add_key_frame(min(int(self.time.value), self.session.frames - 1), placed)
        self._follow()
        self._say("key: " + ", ".join(f"{name} {value:.3g}" for name, value in key.items()))

    def _remove_key(self) -> None:
        self.session.remove_key_frame(len(self.session.trajectory.keyframes or ()) - 1)
        self._follow()
        self._say("")

    def _follow(self) -> None:
        """Set the panel to the session's move."""
        self._quiet = True
        self.preset.value = self.session.trajectory.preset or KEYS
        self.easing.value = self.session.trajectory.easing
        self._quiet = False
        self._refresh()

    def _look_through(self, event: viser.GuiEvent) -> None:
        client = event.client
        if client is not None:
            at = min(int(self.time.value), self.session.frames - 1)
            self._do("look", lambda: self.scene.through(client.camera, at))

    def _name_target(self) -> None:
        self.target.value = default_target(self.session, self.dialect.value)

    def _export(self) -> None:
        read = export(self.session, self.target.value, self.dialect.value)
        back = "" if read is None else f"; a job reads it with relative_to {read.relative_to}"
        self._say(f"wrote {self.target.value}{back}")

    def _keep(self) -> None:
        self.session.keep()
        self.kept.content = "Kept: " + ", ".join(self.session.kept)

    def _show_command(self) -> None:
        line = without_credentials(self.session.command_line(whole=False))
        self._say("")
        self.message.content = f"```\n{line}\n```"

    def _job(self, whole: bool) -> None:
        self._say(self._start(self.session.command(whole=whole)))
