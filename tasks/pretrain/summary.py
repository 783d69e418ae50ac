"""The summary of a pre-training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recapture.conf.pretrain import PretrainConfig
from recapture.tasks.pretrain.gates import Gate, gate_table, missed, part_gates
from recapture.tasks.pretrain.model_card import score_table


@dataclass
class Pretrained:
    """The scores of the parts judged so far, and whether they were exported."""

    config: PretrainConfig
    scores: dict[str, Mapping[str, float]] = field(default_factory=dict)
    exported: bool = False

    @property
    def missed(self) -> list[Gate]:
        """Return the gates that are not met."""
        return [gate for part in self.scores for gate in missed(self.gates(part))]

    def gates(self, part: str) -> list[Gate]:
        """Return the gates of a judged part."""
        return part_gates(self.config.gates, part, self.scores[part])

    def lines(self) -> list[str]:
        """Return the final report: one line on the export, and one per missed gate."""
        folder = Path(self.config.output)
        size = (
            sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if self.exported else 0
        )
        names = f"{folder / 'base'}, {folder / 'depth'} and {folder / 'features'}"
        end = f"{names}: {size / 1e6:.1f} MB" if size else "nothing exported"
        return [end, *(f"gate missed: {gate}" for gate in self.missed)]

    def markdown(self) -> str:
        """Return a page with the gates and scores of every part."""
        parts = ["# Pre-training", "\n".join(f"- {line}" for line in self.lines())]
        for part, scores in self.scores.items():
            gates = self.gates(part)
            parts += [f"## {part}", *([gate_table(gates)] if gates else []), score_table(scores)]
        return "\n\n".join(parts) + "\n"
