"""What a run leaves behind, and that each part of a recipe does what it says."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipway.data.augmentation import Augmentation
from skipway.errors import DivergedError, RecipeError, SkipwayError, StorageError, UnknownNameError
from skipway.evaluation.judge import evaluate
from skipway.inference.classifier import load
from skipway.training import loop as loop_module
from skipway.training.finder import find_rate
from skipway.training.recipe import Recipe, read_recipe
from skipway.training.run import train
from skipway.training.state import checkpoints
from skipway.weights.bundle import load_bundle, save_bundle
from tests.training.conftest import CLASSES, write_classes

FAST = Recipe(name="fast", epochs=2, batch_size=12, learning_rate=3e-3, initialization="he", norm_momentum=0.3)
NETWORK = {"model": "resnet_v1_20.cifar", "image_size": 16, "workers": 0, "device": "cpu"}


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.rows: list[dict[str, float]] = []
        self.steps = 0

    def say(self, text: str) -> None:
        self.lines.append(text)

    def counting(self, what: str, done: int, total: int) -> None: ...

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
        self.steps += 1

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        self.rows.append(row)


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_run_learns_and_leaves_everything(arrays: Path, tmp_path: Path) -> None:
    heard = Heard()
    result = train(arrays, recipe=FAST.replaced(epochs=4), out=tmp_path / "run", reporter=heard, **NETWORK)
    left = {one.name.split(".tfevents")[0] for one in result.folder.iterdir()}
    assert left == {
        ".lock", "checkpoints", "config.toml", "events.out", "metrics.csv", "model.safetensors", "pictures.csv.gz",
        "report.html",
    }  # fmt: skip
    judged = evaluate(result.model, arrays)
    assert (judged.split, judged.evaluation.count) == ("test", 30)
    assert judged.evaluation.top1 >= 0.9, "the strongest channel is not hard to see"
    assert load(result.model).labels == ("0", "1", "2")
    rows = _rows(result.folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert heard.steps == 4 * 5, "54 of 60 pictures train, in batches of 12"
    assert read_recipe(result.folder / "config.toml") == FAST.replaced(epochs=4)


def test_bundle_tells_where_it_comes_from(arrays: Path, tmp_path: Path) -> None:
    result = train(arrays, recipe=FAST, seed=7, out=tmp_path / "run", **NETWORK)
    bundle = load_bundle(result.model)
    assert bundle.provenance["seed"] == 7
    assert bundle.provenance["recipe"] == "fast"
    assert bundle.metrics["top1"] == result.evaluation.top1


def test_same_seed_same_weights_and_another_seed_others(arrays: Path, tmp_path: Path) -> None:
    runs = [
        train(arrays, recipe=FAST.replaced(epochs=1), seed=seed, out=tmp_path / str(i), **NETWORK)
        for i, seed in enumerate((1, 1, 2))
    ]
    first, second, third = (load_bundle(run.model).tensors["stem.conv.weight"] for run in runs)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_events_hold_scalars_graph_pictures_and_histograms(arrays: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(arrays, recipe=FAST.replaced(epochs=1), out=tmp_path / "run", **NETWORK)
    events = EventAccumulator(str(result.folder))
    events.Reload()
    tags = events.Tags()
    assert {"train_loss", "val_top1", "learning_rate"} <= set(tags["scalars"])
    assert tags["graph"]
    assert len(tags["images"]) == 1
    assert "weights/logits.weight" in tags["histograms"]


def test_nan_stops_the_run_and_names_the_step(arrays: Path, tmp_path: Path) -> None:
    recipe = FAST.replaced(optimizer="sgd", learning_rate=1e30, checkpoint_steps=1)
    with pytest.raises(DivergedError, match=r"at step \d+ of 10; .*step-0000000\d\.pt.*--learning-rate"):
        train(arrays, recipe=recipe, out=tmp_path / "run", **NETWORK)
    kept = torch.load(checkpoints(tmp_path / "run")[-1], weights_only=True)["network"]
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())


def test_a_full_disk_keeps_the_last_checkpoint(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def failing(payload: dict[str, object], file: Path) -> None:
        if payload["progress"]["step"] >= 2:  # type: ignore[index]
            raise OSError(28, "No space left on device")
        save(payload, file)

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(StorageError, match="disk is full"):
        train(arrays, recipe=FAST.replaced(checkpoint_steps=1), out=tmp_path / "run", **NETWORK)
    left = sorted(one.name for one in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["step-00000000.pt", "step-00000001.pt"]


def test_frozen_stages_stay_as_they_were(arrays: Path, tmp_path: Path) -> None:
    base = train(arrays, recipe=FAST.replaced(epochs=1), out=tmp_path / "base", **NETWORK)
    recipe = FAST.replaced(epochs=1, freeze=("stem", "stage1", "stage2"))
    tuned = train(arrays, source_model=base.model, recipe=recipe, out=tmp_path / "tuned", workers=0, device="cpu")
    before, after = load_bundle(base.model).tensors, load_bundle(tuned.model).tensors
    for name, tensor in before.items():
        frozen = name.startswith(("stem", "stage1", "stage2"))
        if name.endswith(("weight", "running_mean")):
            assert torch.equal(tensor, after[name]) == frozen, name


def test_freezing_an_unknown_stage_names_the_stages(arrays: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"stage9.*stage"):
        train(arrays, recipe=FAST.replaced(freeze=("stage9",)), out=tmp_path / "run", **NETWORK)


def test_fine_tuning_replaces_the_head_for_other_classes(arrays: Path, folder: Path, tmp_path: Path) -> None:
    base = train(arrays, recipe=FAST.replaced(epochs=1), out=tmp_path / "base", **NETWORK)
    heard = Heard()
    tuned = train(folder, source_model=base.model, recipe=FAST, out=tmp_path / "tuned", workers=0, reporter=heard)
    assert any("reset (logits.bias, logits.weight)" in line and "kept" in line for line in heard.lines)
    assert load(tuned.model).labels == CLASSES
    heard = Heard()
    train(arrays, source_model=base.model, recipe=FAST, out=tmp_path / "same", workers=0, reporter=heard)
    assert any("0 reset" in line for line in heard.lines)


def test_recomputed_statistics_repair_a_slow_momentum(arrays: Path, tmp_path: Path) -> None:
    recipe = FAST.replaced(epochs=6, norm_momentum=1e-4, recompute_statistics=True, keep="last")
    result = train(arrays, recipe=recipe, out=tmp_path / "run", **NETWORK)
    assert result.evaluation.top1 > result_before(result.remarks) + 0.2


def result_before(remarks: tuple[str, ...]) -> float:
    """Top-1 before the statistics were recomputed, from the remark that reports it."""
    remark = next(one for one in remarks if "recomputed" in one)
    return float(remark.split("top-1 ")[1].split("%")[0]) / 100


def test_early_stopping_and_the_best_epoch(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.8, 0.7, 0.6, 0.9, 0.9])
    judge = loop_module.evaluate_network

    def scripted(*arguments: object, **options: object) -> object:
        from dataclasses import replace

        return replace(judge(*arguments, **options), top1=next(scores))  # type: ignore[arg-type, type-var]

    monkeypatch.setattr(loop_module, "evaluate_network", scripted)
    result = train(arrays, recipe=FAST.replaced(epochs=6, early_stopping=2), out=tmp_path / "run", **NETWORK)
    assert result.epochs == 4
    assert "epoch 2, the best of 4" in result.remarks[0]


def test_validation_folder_and_no_validation(folder: Path, tmp_path: Path) -> None:
    held = write_classes(tmp_path / "held", 2, seed=9)
    result = train(folder, recipe=FAST, val=str(held), out=tmp_path / "a", **NETWORK)
    assert (result.split, result.evaluation.count) == ("val", 6)
    result = train(folder, recipe=FAST, val=0, out=tmp_path / "b", **NETWORK)
    assert (result.split, result.evaluation.count) == ("train", 36)
    assert "no pictures were held out" in result.remarks[0]


def test_without_a_model_the_pictures_decide(folder: Path, tmp_path: Path) -> None:
    heard = Heard()
    train(folder, recipe=FAST.replaced(epochs=1), out=tmp_path / "run", workers=0, reporter=heard)
    assert heard.lines[0].startswith("model resnet_v1_20.cifar: 33 colour pictures of about 16 pixels")


def test_bad_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 12)
    (data / "red" / "torn.png").write_bytes((data / "red" / "0.png").read_bytes()[:60])
    result = train(data, recipe=FAST.replaced(epochs=1), out=tmp_path / "run", **NETWORK)
    rows = _rows(result.folder / "bad_files.csv")
    assert [Path(row["file"]).name for row in rows] == ["torn.png"]
    assert any("1 unreadable" in remark for remark in result.remarks)


def test_balanced_weights_help_the_rare_class() -> None:
    from skipway.data.dataset import ArrayPictures, Split
    from skipway.training.job import balanced_weights

    targets = np.array([0] * 90 + [1] * 10)
    weights = balanced_weights(Split(ArrayPictures(np.zeros((100, 2, 2), np.uint8), "x"), targets), 2)
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 20])
    assert float((weights[targets]).mean()) == pytest.approx(1.0)


def test_learning_rate_finder_draws_and_trains_nothing(arrays: Path, tmp_path: Path) -> None:
    found = find_rate(arrays, reporter=Heard(), recipe=FAST, out=tmp_path / "run", **NETWORK)
    assert 1e-6 < found.suggestion < 1
    with Image.open(found.plot) as plot:
        assert plot.format == "PNG"
    assert [one.name for one in (tmp_path / "run").iterdir()] == ["learning_rate.png"]


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(mixup=0.4),
        Augmentation(cutmix=1.0),
        Augmentation(crop="random_resized", lighting=0.1, saturation=0.3),
        Augmentation(crop="random", crop_from=20, randaugment=2, erasing=0.5),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_augmentation_trains(arrays: Path, tmp_path: Path, augmentation: Augmentation, optimizer: str) -> None:
    recipe = FAST.replaced(epochs=1, augmentation=augmentation, optimizer=optimizer, class_weights="auto")
    result = train(arrays, recipe=recipe, out=tmp_path / "run", **NETWORK)
    assert np.isfinite(result.evaluation.loss)


def test_val_0_trains_on_the_val_part_too(tmp_path: Path) -> None:
    for name, each in (("train", 8), ("val", 4)):
        write_classes(tmp_path / "data" / name, each)
    for number, (val, recipe) in enumerate((("0", FAST), ("", FAST.replaced(validation=0.0)))):
        heard, out = Heard(), tmp_path / str(number)
        train(tmp_path / "data", recipe=recipe.replaced(epochs=1), val=val, out=out, reporter=heard, **NETWORK)
        assert any("36 pictures to train, none held out" in line for line in heard.lines)


def test_early_stopping_needs_something_to_judge_by(arrays: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="early_stopping"):
        train(arrays, recipe=FAST.replaced(early_stopping=2), val=0, out=tmp_path / "run", **NETWORK)


def test_the_finder_tries_the_rates_that_it_draws(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skipway.training import finder
    from skipway.training.updater import Updater

    used: list[float] = []
    update = Updater.update

    def watched(self: Updater, batch: object, step: int) -> None:
        update(self, batch, step)  # type: ignore[arg-type]
        used.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(Updater, "update", watched)
    recipe = FAST.replaced(schedule="cosine", warmup=0.5)
    find_rate(arrays, reporter=Heard(), recipe=recipe, out=tmp_path / "run", **NETWORK)
    assert used == pytest.approx([finder._rate(step) for step in range(len(used))])


def test_uneven_parts_never_leave_one_picture(arrays: Path, tmp_path: Path) -> None:
    recipe = FAST.replaced(epochs=1, batch_size=16, accumulation=6)
    train(arrays, model="resnet_v1_18", image_size=32, recipe=recipe, out=tmp_path / "run", workers=0, device="cpu")


def test_files_that_are_no_pictures_are_mentioned(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 8)
    (data / "red" / "phone.HEIC").write_bytes(b"x")
    (data / "__MACOSX").mkdir()
    heard = Heard()
    train(data, recipe=FAST.replaced(epochs=1), out=tmp_path / "run", reporter=heard, **NETWORK)
    assert heard.lines[0].startswith("1 file is not taken for a picture (.heic 1); convert it to JPEG or PNG to use it")


def test_events_on_a_full_disk_name_the_folder(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.raises(StorageError, match=r"run .*free some space"):
        train(arrays, recipe=FAST, out=tmp_path / "run", **NETWORK)


@pytest.mark.parametrize(
    ("wrong", "right"), [("epoch", "epochs"), ("learningrate", "learning_rate"), ("modell", "model")]
)
def test_an_unknown_option_is_refused_with_the_nearest(arrays: Path, tmp_path: Path, wrong: str, right: str) -> None:
    for call in (train, find_rate):
        with pytest.raises(UnknownNameError, match=rf"unknown option of \w+ '{wrong}'; the nearest: {right}"):
            call(arrays, reporter=Heard(), out=tmp_path / "run", **{wrong: 7})  # type: ignore[operator]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [{"epochs": "3"}, {"epochs": 2.5}, {"batch_size": "x"}, {"learning_rate": "x"}, {"recipe": None}, {"seed": "x"}],
)
def test_values_of_other_types_are_refused_before_anything_is_written(
    arrays: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(SkipwayError):
        train(arrays, out=tmp_path / "run", **NETWORK | options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_another_size_keeps_the_first_models_preparation(arrays: Path, tmp_path: Path) -> None:
    base = train(arrays, recipe=FAST.replaced(epochs=1), out=tmp_path / "base", **NETWORK)
    bundle = load_bundle(base.model)
    other = replace(bundle, preprocessing=replace(bundle.preprocessing, scale=1.0, mean=(9.0, 8.0, 7.0)))
    save_bundle(tmp_path / "m.safetensors", other)
    options = {"recipe": FAST.replaced(epochs=1), "image_size": 24, "workers": 0, "device": "cpu"}
    tuned = train(arrays, source_model=tmp_path / "m.safetensors", out=tmp_path / "tuned", **options)
    found = load_bundle(tuned.model).preprocessing
    assert (found.size, found.resize_to, found.scale, found.mean) == (24, 24, 1.0, (9.0, 8.0, 7.0))
