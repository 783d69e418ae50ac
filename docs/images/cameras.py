"""Draw cameras.png: the path of a hand-held camera as it was and as it is estimated.

PYTHONPATH=benchmarks python docs/images/cameras.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bench.filmed_paths import shot
from recapture.models.cameras.estimate import Lens
from recapture.models.cameras.shots import estimate_clip
from recapture.models.cameras.tracks import follow
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.metrics.trajectory import aligned, angles, centres

FRAMES, SIZE = 49, (128, 224)

clip = shot("hand-held", FRAMES, 705, SIZE, "wide")
lens = default_intrinsics(*SIZE, 60.0).double().numpy()
found = estimate_clip(
    follow(zip(clip.rgb, clip.depth, np.isfinite(clip.depth))),
    Lens(float(lens[0, 0]), (SIZE[1] / 2, SIZE[0] / 2)),
    spread=0.03,
    regain=False,
    groups=np.arange(FRAMES),
    least_confidence=0.0,
)
pose = aligned(found.arrays["world_to_camera"], clip.world_to_camera, "none")
figure, (above, beside) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for path, style, label in ((clip.world_to_camera, "k-", "true"), (pose, "C1--", "estimated")):
    x, _, z = centres(path).T
    above.plot(x, z, style, label=label)
above.set(xlabel="right", ylabel="forward", title="path, in units of the scene", aspect="equal")
above.legend(frameon=False)
beside.plot(angles(pose, clip.world_to_camera), "C1", label="rotation, degrees off")
beside.plot(found.arrays["confidence"], "C0", label="confidence")
beside.set(xlabel="frame", ylim=(0, 1.05), title=f"motion: {found.motions[0]}")
beside.legend(frameon=False)
figure.savefig(Path(__file__).with_name("cameras.png"), dpi=110)
