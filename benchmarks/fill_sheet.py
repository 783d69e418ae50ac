"""Draw every fill's result on the real sample clips, one above the other, one picture per clip.

    python benchmarks/fill_sheet.py docs/images

Runs `recapture run` on the sample dataset once for each fill.method, at the default trajectories, into
outputs/fills (finished results are reused), and writes fills_CLIP.png: the source in the first row, then one
row per method, with four frames as columns. Nothing is measured: real clips have no truth.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from recapture.datasets.media.video import iterate_frames
from recapture.tasks.clip.sheets import contact_sheet, spread

METHODS = ("classical", "base", "inverse")
TRAJECTORY = "orbit_right_20"
ROOT = Path("outputs/fills")


def main() -> None:
    target = Path(sys.argv[1])
    for method in METHODS:
        command = [sys.executable, "-m", "recapture.flows.cli", "run", "--profile", "demo"]
        command += ["--dataset.uri", "datasets/sample/real", "--dataset.name", f"fills-{method}"]
        command += ["--fill.method", method, "--outputs", str(ROOT), "--store", str(ROOT / "store")]
        subprocess.run(command, check=True)
    for clip in sorted(Path("datasets/sample/real").glob("*.mp4")):
        source = np.stack(list(iterate_frames(str(clip))))
        chosen = spread(len(source), 4)
        rows = {"source": source[chosen]}
        for method in METHODS:
            video = ROOT / f"fills-{method}" / clip.stem / TRAJECTORY / "recapture.mp4"
            rows[method] = np.stack(list(iterate_frames(str(video))))[chosen]
        sheet = contact_sheet(rows, [f"frame {frame}" for frame in chosen])
        sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(
            target / f"fills_{clip.stem}.png", optimize=True
        )
        print(target / f"fills_{clip.stem}.png", sheet.size)


if __name__ == "__main__":
    main()
