"""Store the finished weights of pre-training's parts, with the settings that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from recapture.conf.errors import UserError
from recapture.conf.pretrain import PretrainConfig
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.models.pretraining.trainer import changed_settings
from recapture.models.wan.adapter_save import with_sorted_header
from recapture.tasks.pretrain.curves import seconds

BUILT_ON = {"refine": "vae", "sharpen": "refine", "inpainter": "refine"}
DECODER = ("decoder.", "post_quant_conv.")
_VAE_SETTINGS = ("side", "vae_clips", "vae_epoch", "vae_scale", "autoencoder")
_SETTINGS = {  # settings that a part's weights depend on, in addition to its schedule
    "vae": _VAE_SETTINGS,
    "refine": _VAE_SETTINGS,
    "sharpen": (*_VAE_SETTINGS, "adversary_rate"),
    "inpainter": (
        "inpainter_batch",
        "inpainter_clips",
        "inpainter_masks",
        "inpainter_scale",
        "inpainter_epoch",
        "transformer",
    ),
    "depth": ("depth_batch", "depth_frames", "depth_epoch", "depth_model"),
    "features": ("features_batch", "features_clips", "features_epoch", "features_side", "feature_network"),
}


class FinishedWeights:
    """The files PART.finished.safetensors of fully trained parts."""

    def __init__(self, config: PretrainConfig) -> None:
        self._config, self._folder = config, Path(config.work)

    def path(self, part: str) -> Path:
        """Return the file of a part."""
        return self._folder / f"{part}.finished.safetensors"

    def made_with(self, part: str) -> dict[str, Any]:
        """Return the settings that a part's weights depend on, and a hash of the weights it is built on."""
        config = self._config.model_dump(mode="json")
        below = BUILT_ON.get(part)
        return {
            **config[part],
            **{name: config[name] for name in ("seed", "scenes", "varieties", *_SETTINGS[part])},
            **({} if below is None else {below: self.digest(below)}),
            **({"start": hashed(begun)} if (begun := self.start(part)) else {}),
        }

    def start(self, part: str) -> Path | None:
        """Return the file of an earlier run that a part goes on from; None where there is none.

        Raises UserError if `start` is no folder.
        """
        folder = Path(self._config.start)
        if not self._config.start:
            return None
        if not folder.is_dir():
            raise UserError(f"pretrain: start={folder} is no folder; give the work folder of an earlier run")
        path = folder / f"{part}.finished.safetensors"
        return path if path.exists() else None

    def earlier(self, part: str) -> list[dict[str, Any]]:
        """Return settings and seconds of the runs that a part's weights come from, oldest first."""
        path = self.start(part)
        if path is None:
            return []
        with safe_open(path, "pt") as file:
            notes = file.metadata()
        took = round(seconds(path.parent, part), 1)
        return [*json.loads(notes.get("earlier", "[]")), {**json.loads(notes["recapture"]), "seconds": took}]

    def read_start(self, part: str) -> dict[str, Tensor]:
        """Return the tensors in float32 that a part goes on from; empty where it begins anew."""
        path = self.start(part)
        return {} if path is None else {name: value.float() for name, value in load_file(path).items()}

    def digest(self, part: str) -> str:
        """Return a hash of a part's file; '' if there is none."""
        path = self.path(part)
        return hashed(path) if path.exists() else ""

    def exists(self, part: str) -> bool:
        """Return whether a part is finished; raises UserError if it was made with other settings."""
        path = self.path(part)
        if not path.exists():
            return False
        with safe_open(path, "pt") as file:
            made_with = json.loads(file.metadata()["recapture"])
        if changed := changed_settings(made_with, self.made_with(part)):
            raise UserError(
                f"pretrain: {path} was made with {changed}; remove {self._folder}/{part}.* to retrain, "
                "restore the settings, or choose another work folder"
            )
        return True

    def write(self, part: str, weights: Mapping[str, Tensor]) -> None:
        """Write a part's tensors completely or not at all."""
        notes = {"recapture": json.dumps(self.made_with(part)), "earlier": json.dumps(self.earlier(part))}
        content = with_sorted_header(save(dict(weights), metadata=notes))
        put_file(*open_filesystem(str(self.path(part))), content)

    def read(self, part: str) -> dict[str, Tensor]:
        """Return a part's tensors in float32 on the CPU; raises UserError if it is not finished."""
        if not self.exists(part):
            raise UserError(
                f"pretrain: {part} is not trained yet ({self.path(part)} is missing); train it first"
            )
        return {name: value.float() for name, value in load_file(self.path(part)).items()}


def begin(module: nn.Module, weights: FinishedWeights, part: str, steps: int) -> None:
    """Load the weights of `start` into a part's module where it has some; of `sharpen` the decoder alone.

    Raises UserError where they are of another architecture, or no step is to be made and there are none.
    """
    begun = weights.read_start(part)
    if not begun:
        if not steps:
            raise UserError(
                f"pretrain: {part}.steps=0 keeps earlier weights, but start has no "
                f"{part}.finished.safetensors; set start to the folder that has it, or steps above 0"
            )
        return
    begun = {name: value for name, value in begun.items() if not name.startswith("statistics.")}
    own = module.state_dict()
    if part == "sharpen":
        begun = {name: value for name, value in begun.items() if name.startswith(DECODER)}
        own = {name: value for name, value in own.items() if name.startswith(DECODER)}
    wrong = [name for name in {**own, **begun} if _shape(own, name) != _shape(begun, name)]
    if wrong:
        raise UserError(
            f"pretrain: {weights.start(part)} is of another architecture: {wrong[0]} is "
            f"{_shape(begun, wrong[0])} there and {_shape(own, wrong[0])} here; set the architecture of that "
            "run, or remove the file"
        )
    module.load_state_dict(begun, strict=part != "sharpen")


def _shape(tensors: Mapping[str, Tensor], name: str) -> list[int] | None:
    return list(tensors[name].shape) if name in tensors else None


def hashed(path: Path) -> str:
    """Return a short hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
