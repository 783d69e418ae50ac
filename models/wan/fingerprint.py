"""A mark of a transformer: an adapter names the one that it was tuned on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

_SAMPLES = 1 << 16  # values of a tensor that enter


def fingerprint(transformer: Any) -> str:
    """Return a hash of the base's configuration and weights, whatever adapters it carries.

    Up to 65,536 evenly spaced values of each tensor enter, rounded to bfloat16, so that it does not depend
    on the dtype (float32 or bfloat16) or device that the base was loaded with.
    """
    settings = {key: value for key, value in dict(transformer.config).items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode())
    for key, value in sorted(transformer.state_dict().items()):
        if ".lora_" in key:
            continue
        digest.update(f"{key.replace('.base_layer', '')} {list(value.shape)}".encode())
        flat = value.detach().flatten()
        sample = flat[:: max(1, -(-flat.numel() // _SAMPLES))].to("cpu", torch.float32).to(torch.bfloat16)
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
