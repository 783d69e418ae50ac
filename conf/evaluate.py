"""The protocols that `recapture evaluate` knows by name, and what is unknown of those that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PROTOCOLS = ("kubric4d", "pardom", "dycheck")
# Name -> why no number of it would be comparable with a published one.
UNKNOWN: Mapping[str, str] = MappingProxyType(
    {
        "multicamvideo": "ReCamMaster (arXiv 2503.11647) has published no evaluation code: unit and scale of "
        "RotErr and TransErr and the threshold of Mat. Pix. are not established",
        "re10k": "for CameraCtrl (arXiv 2404.02101) the scale of TransErr, which a reconstruction leaves "
        "open, and how clips without a reconstruction are counted are not established",
        "davis": "DAVIS has neither cameras nor a second view, so there is no truth, and no published "
        "trajectories",
        "scenes": "no fixed set of scenes and trajectories is defined; `recapture run` on scenes:// measures "
        "against the exact truth",
        "motionscenes": "no fixed set of scenes is defined; `recapture transfer` on motionscenes:// measures "
        "against the exact truth",
    }
)
