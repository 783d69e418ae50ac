"""Store the finished weights of pre-training's parts, with the settings that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.pretrain import PretrainConfig
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.models.pretraining.trainer import changed_settings

BUILT_ON = {"refine": "vae", "sharpen": "refine", "inpainter": "refine"}
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
        }

    def digest(self, part: str) -> str:
        """Return a hash of a part's file; '' if there is none."""
        path = self.path(part)
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""

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
        content = save(dict(weights), metadata={"recapture": json.dumps(self.made_with(part))})
        put_file(*open_filesystem(str(self.path(part))), content)

    def read(self, part: str) -> dict[str, Tensor]:
        """Return a part's tensors in float32 on the CPU; raises UserError if it is not finished."""
        if not self.exists(part):
            raise UserError(
                f"pretrain: {part} is not trained yet ({self.path(part)} is missing); train it first"
            )
        return {name: value.float() for name, value in load_file(self.path(part)).items()}
