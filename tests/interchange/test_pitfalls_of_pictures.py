"""Where imports go wrong without a word beside the network: how pictures are resized, and how labels are ordered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from skipway.data.preprocessing import preset
from skipway.data.sources import open_source
from skipway.evaluation.judge import evaluate
from skipway.weights.bundle import load_bundle, save_bundle
from skipway.weights.labels import read_labels


def without_half_pixels(counts: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's bilinear resize of (H, W, C): output i lies at i * in / out, nothing is averaged before."""
    for axis in (0, 1):
        length = counts.shape[axis]
        at = np.arange(size) * (length / size)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if one == axis else 1 for one in range(3)])
        upper = counts.take(np.minimum(low + 1, length - 1), axis)
        counts = counts.take(low, axis) * (1 - share) + upper * share
    return counts


def test_slims_pictures_are_cut_to_seven_eighths_and_sampled_without_half_pixels() -> None:
    rule = preset("slim_v2", 299)
    noise = np.random.default_rng(3).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((640, 512), Image.Resampling.BICUBIC))
    cut = picture[32:480, 40:600].astype(np.float64)
    expected = without_half_pixels(cut, 299) / 127.5 - 1
    found = rule.tensor(picture)[0].permute(1, 2, 0).numpy()
    assert found.shape == (299, 299, 3)
    assert np.abs(found - expected).max() < 1e-4
    for change in ({"central": 1.0}, {"kernel": "bilinear"}, {"kernel": "opencv_bilinear"}, {"kernel": "nearest"}):
        wrong = dataclasses.replace(rule, **change).tensor(picture)[0].permute(1, 2, 0).numpy()
        assert np.abs(wrong - expected).max() > 0.05, change


def test_labels_keep_their_order(trained: Path, colours: Path, tmp_path: Path, to: Path) -> None:
    """Folders 1, 2, 10 sort as 1, 10, 2 by their letters: labels stored in that order call every second class wrong."""
    names = {"blue": "1", "green": "2", "red": "10"}
    for colour, name in names.items():
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).symlink_to(colours / colour, target_is_directory=True)
    assert open_source(tmp_path / "data").labels == ("1", "2", "10")
    bundle = load_bundle(trained / "model.safetensors")
    assert bundle.labels == ("blue", "green", "red")

    def top1(labels: tuple[str, ...]) -> float:
        save_bundle(to, dataclasses.replace(bundle, labels=labels))
        return evaluate(to, tmp_path / "data", device="cpu", workers=0).evaluation.top1

    assert top1(("1", "2", "10")) > 0.9
    assert top1(("1", "10", "2")) < 0.5
    (tmp_path / "labels.txt").write_text("1\n2\n10\n")
    assert read_labels(tmp_path / "labels.txt") == ("1", "2", "10")
