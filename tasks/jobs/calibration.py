"""What a calibration of shortcuts found: the choice, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recapture.conf.schema import FillConfig
from recapture.models.fill.calibrate import FEWEST, Loss


@dataclass(frozen=True)
class Calibration:
    """What a job's calibration found and chose."""

    max_loss: float
    videos: int  # that were measured
    found: tuple[Loss, ...]  # the exact way first
    chosen: Loss

    def settled(self, config: FillConfig) -> FillConfig:
        """Return the settings of filling with what was chosen."""
        chosen = self.chosen.shortcut
        cache, interval = chosen.saving.budget, chosen.saving.guided
        speed = config.speed.exact().model_copy(update={"step_cache": cache, "guidance_interval": interval})
        return config.model_copy(update={"steps": chosen.steps, "speed": speed})

    @property
    def metrics(self) -> dict[str, float]:
        """Return the chosen way's loss and cost."""
        return {
            "calibration/loss_db": self.chosen.loss,
            "calibration/passes_share": self.chosen.passes,
            "calibration/seconds_share": self.chosen.seconds,
        }

    @property
    def warnings(self) -> list[str]:
        """Return, in a sentence, why nothing was chosen; empty if something was."""
        if self.chosen is not self.found[0]:
            return []
        if self.videos < FEWEST:
            return [
                f"fill.speed.max_loss: a loss cannot be bounded on {self.videos} videos with holes, it takes "
                f"{FEWEST}; all videos are filled without shortcuts"
            ]
        return [
            f"fill.speed.max_loss: no shortcut is sure to lose at most {self.max_loss:g} dB on {self.videos} "
            "videos; all videos are filled without. Allow more, or raise fill.speed.calibration"
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return a table of the ways that were tried."""
        return [
            {
                "way": one.shortcut.name,
                "loss_db": round(one.loss, 4),
                "loss_upper_db": round(one.upper, 4),
                "passes_share": round(one.passes, 4),
                "seconds_share": round(one.seconds, 4),
                "chosen": one is self.chosen,
            }
            for one in self.found
        ]

    def lines(self) -> list[str]:
        """Return it as lines of Markdown."""
        table = [
            f"| {'**' * one['chosen']}{one['way']}{'**' * one['chosen']} | {one['loss_db']:+.2f} "
            f"| {one['loss_upper_db']:+.2f} | {one['passes_share']:.0%} | {one['seconds_share']:.0%} |"
            for one in self.rows()
        ]
        return [
            "",
            f"Fills may lose {self.max_loss:g} dB in holes (fill.speed.max_loss). Measured on {self.videos} "
            f"videos; chosen: {self.chosen.shortcut.name}.",
            "",
            "| way | loss, dB | upper bound | passes | seconds |",
            "|---|---:|---:|---:|---:|",
            *table,
        ]
