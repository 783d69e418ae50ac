"""Draw plots/tuning.png from the tables of tuning.py: the gain of hole PSNR over the base, by angle.

python benchmarks/tuning_plot.py
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.tables import load

PANELS = {
    "tuning-sweep-returned_hole": "content that the clip shows",
    "tuning-sweep-psnr_hole": "the true view",
}
FILLS = {
    "single": "one round",
    "iterative": "iterative rounds",
    "single, packed in training and fill": "packed in training and fill",
    "inverse": "inverse solver, untuned",
}
TARGET = Path(__file__).parent / "plots" / "tuning.png"


def main() -> None:
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, (name, title) in zip(panels, PANELS.items()):
        table = load(name)
        angles = [float(column.name.rstrip("°")) for column in table.columns[1:]]
        for fill, label in FILLS.items():
            cells = next((row[1:] for row in table.rows if row[0] == fill), [])
            gains = [cell for cell in cells if isinstance(cell, list)]
            if not gains:  # nothing is packed in a clip that is sent there and back
                panel.plot([], [], label=label)
                continue
            means, lows, highs = zip(*gains)
            (line,) = panel.plot(angles, means, marker="o", markersize=3, label=label)
            panel.fill_between(angles, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.set(title=f"Holes: {title}", xlabel="angle, degrees")
    panels[0].set_ylabel("gain of PSNR over the base, dB")
    panels[1].legend(fontsize=8)
    TARGET.parent.mkdir(exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=90)
    Image.open(drawn).convert("RGB").quantize(64).save(TARGET, optimize=True)
    print(TARGET)


if __name__ == "__main__":
    main()
