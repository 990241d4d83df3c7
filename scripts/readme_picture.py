"""Draws docs/images/demo.png from a finished demo: `python scripts/readme_picture.py [runs/demo]`."""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import skipway

BLUE, GREY, INK = "#1f6feb", "#c4ccd6", "#24292f"


def main(run: Path) -> None:
    classifier = skipway.load(run / "model.safetensors")
    files = sorted((run / "pictures").glob("*.png"))
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(files), height_ratios=(1.25, 1))
    for column, (file, answers) in enumerate(zip(files, classifier.predict(files, top=5), strict=True)):
        picture, bars = axes[0][column], axes[1][column]
        with Image.open(file) as image:
            picture.imshow(image, cmap="gray_r", interpolation="nearest")
        picture.axis("off")
        shares = [answer.probability for answer in answers]
        bars.barh(range(5), shares, color=[BLUE] + [GREY] * 4)
        bars.set_yticks(range(5), [answer.label for answer in answers], color=INK)
        bars.invert_yaxis()
        bars.set_xlim(0, 1.22)
        bars.set_xticks([])
        for row, share in enumerate(shares):
            bars.text(share + 0.03, row, f"{share:.1%}", va="center", fontsize=9, color=INK)
        bars.spines[:].set_visible(False)
        bars.tick_params(length=0)
    count, top1 = classifier.metrics["count"], classifier.metrics["top1"]
    figure.suptitle(
        f"{classifier.spec.name} on six of the {count:,} digits that it never trained on (top-1 of all: {top1:.1%})",
        fontsize=12,
        color=INK,
    )
    figure.savefig(Path(__file__).parents[1] / "docs" / "images" / "demo.png", dpi=110, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
