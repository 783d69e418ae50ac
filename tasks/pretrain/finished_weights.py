"""The finished weights of pre-training's parts, in its working folder, with the settings that made them."""

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

BUILT_ON = {"refine": "vae", "inpainter": "refine"}
_VAE_SETTINGS = ("side", "vae_clips", "vae_epoch", "vae_scale", "autoencoder")
_SETTINGS = {  # that a part's weights depend on, beside its schedule
    "vae": _VAE_SETTINGS,
    "refine": _VAE_SETTINGS,
    "inpainter": (
        *("inpainter_batch", "inpainter_clips", "inpainter_masks", "inpainter_scale", "inpainter_epoch"),
        "transformer",
    ),
    "depth": ("depth_batch", "depth_model"),
}


class FinishedWeights:
    """PART.finished.safetensors of every part that has been trained to its end."""

    def __init__(self, config: PretrainConfig) -> None:
        self._config, self._folder = config, Path(config.work)

    def path(self, part: str) -> Path:
        """The file of a part."""
        return self._folder / f"{part}.finished.safetensors"

    def made_with(self, part: str) -> dict[str, Any]:
        """The settings that a part's weights depend on, and a hash of the weights that it is built on."""
        config = self._config.model_dump(mode="json")
        below = BUILT_ON.get(part)
        return {
            **config[part],
            **{name: config[name] for name in ("seed", "scenes", *_SETTINGS[part])},
            **({} if below is None else {below: self.digest(below)}),
        }

    def digest(self, part: str) -> str:
        """A hash of a part's file; '' while there is none."""
        path = self.path(part)
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""

    def exists(self, part: str) -> bool:
        """Whether a part is finished; raises UserError when it was made with other settings."""
        path = self.path(part)
        if not path.exists():
            return False
        with safe_open(path, "pt") as file:
            made_with = json.loads(file.metadata()["recapture"])
        if changed := changed_settings(made_with, self.made_with(part)):
            raise UserError(
                f"pretrain: {path} was made with {changed}; remove {self._folder}/{part}.* to train it anew, "
                "restore the settings, or choose another folder as work"
            )
        return True

    def write(self, part: str, weights: Mapping[str, Tensor]) -> None:
        """Keep a part's tensors: whole, or not at all."""
        content = save(dict(weights), metadata={"recapture": json.dumps(self.made_with(part))})
        put_file(*open_filesystem(str(self.path(part))), content)

    def read(self, part: str) -> dict[str, Tensor]:
        """A part's tensors in float32, on the CPU; raises UserError when it is not finished."""
        if not self.exists(part):
            raise UserError(
                f"pretrain: {part} is not trained yet ({self.path(part)} is missing); train it first"
            )
        return {name: value.float() for name, value in load_file(self.path(part)).items()}
