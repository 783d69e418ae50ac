"""What a tuning run resumes from, as one safetensors file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


@dataclass
class TrainingState:
    """Where a run stands, beside its weights and moments."""

    step: int
    average: dict[str, Tensor]
    best: dict[str, Tensor] | None  # the average with the lowest held-out loss
    best_loss: float = math.inf
    without_gain: int = 0  # held-out losses since the best
    sums: dict[str, float] = field(default_factory=dict)  # since the last log
    counted: int = 0


@dataclass(frozen=True)
class Saved:
    """A state read back."""

    state: TrainingState
    masters: dict[str, Tensor]
    moments: dict[str, tuple[Tensor, Tensor]]


def pack_state(
    state: TrainingState,
    masters: Mapping[str, Tensor],
    moments: Mapping[str, tuple[Tensor, Tensor]],
    marks: Mapping[str, str],
) -> bytes:
    """Return a run's state as safetensors; marks: what a run that continues it must share with it."""
    groups = {
        "weights": masters,
        "average": state.average,
        "best": state.best or {},
        "first": {key: pair[0] for key, pair in moments.items()},
        "second": {key: pair[1] for key, pair in moments.items()},
    }
    note = {
        "step": state.step,
        "best_loss": state.best_loss if math.isfinite(state.best_loss) else None,
        "without_gain": state.without_gain,
        "sums": state.sums,
        "counted": state.counted,
        "marks": dict(marks),
    }
    return save(
        {f"{group}/{key}": value.cpu() for group, values in groups.items() for key, value in values.items()},
        metadata={"recapture": json.dumps(note)},
    )


def unpack_state(content: bytes, marks: Mapping[str, str], expected: Mapping[str, Tensor]) -> Saved:
    """Read a state. Raises ValueError where it is damaged, has other marks, or is of another adapter."""
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        note = json.loads(header["__metadata__"]["recapture"])
        for key, value in marks.items():
            found = note["marks"].get(key)
            if found != value:
                raise ValueError(
                    f"its {key} is {found}, this run's {value}; restore the old ones or start anew without it"
                )
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, key = name.split("/", 1)
            groups.setdefault(group, {})[key] = tensor
        weights = groups["weights"]
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in expected.items()}:
            raise ValueError("it is of an adapter of another rank or other layers")
        state = TrainingState(
            step=note["step"],
            average=groups["average"],
            best=groups.get("best"),
            best_loss=math.inf if note["best_loss"] is None else note["best_loss"],
            without_gain=note["without_gain"],
            sums=note["sums"],
            counted=note["counted"],
        )
        first, second = groups.get("first", {}), groups.get("second", {})
        return Saved(state, weights, {key: (first[key], second[key]) for key in first})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"tuning: this saved state cannot be continued: {error}") from None
