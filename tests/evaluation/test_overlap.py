"""A model is judged on what it was not trained on, and whoever reads its figures is told of the rest."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skipway.cli import main
from skipway.data.identity import content_digest
from skipway.errors import DataError, UnknownNameError
from skipway.evaluation.judge import Judgement, evaluate
from skipway.training.finish import RunResult
from skipway.training.recipe import Recipe
from skipway.training.run import train
from skipway.weights.bundle import load_bundle, save_bundle

RECIPE = Recipe(name="short", epochs=2, batch_size=10, learning_rate=1e-3, validation=0.2)
EACH = 20


def _drawn(number: int) -> Image.Image:
    """A smooth random picture of 64 pixels, unlike any other."""
    noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 pictures, without parts."""
    root = tmp_path_factory.mktemp("overlap") / "data"
    for number in range(3 * EACH):
        place = root / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        _drawn(number).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(folder, model="plain_mlp_2", image_size=16, recipe=RECIPE, workers=0, device="cpu", out=out)


def _judged(model: Path, data: Path, **options: Any) -> Judgement:
    return evaluate(model, data, workers=0, device="cpu", engine="eager", **options)


def _counts(found: Judgement) -> tuple[int, int, int]:
    """Judged, of these trained on, of these look so."""
    assert found.overlap is not None
    return found.evaluation.count, int(found.overlap.same.sum()), int(found.overlap.alike.sum())


def test_without_parts_only_the_held_out_pictures_judge(trained: RunResult, folder: Path) -> None:
    assert trained.evaluation.count == 12
    for split in ("", "val"):
        found = _judged(trained.model, folder, split=split)
        assert _counts(found) == (12, 0, 0)
        assert found.evaluation.top1 == trained.evaluation.top1
        assert found.evaluation.loss == pytest.approx(trained.evaluation.loss)
        assert found.remarks() == ["12 held-out of 60 pictures; 48 were trained on"]


def test_all_of_them_are_no_measure_and_that_is_said_first(trained: RunResult, folder: Path) -> None:
    found = _judged(trained.model, folder, split="all")
    assert _counts(found) == (60, 48, 0)
    assert found.describe().startswith("NO MEASURE: 48 of these 60 pictures were trained on")
    assert found.to_dict()["overlap"]["trained_on"] == 48
    only = _judged(trained.model, folder, split="train")
    assert _counts(only) == (48, 48, 0)
    assert only.remarks()[1].startswith("NO MEASURE: 48 of these 48")


def test_moved_and_renamed_copies_are_known_by_their_content(trained: RunResult, folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    for number, file in enumerate(sorted(folder.rglob("*.png"))):
        place = moved / file.parent.name / f"img_{number:05}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    assert _counts(_judged(trained.model, moved)) == (12, 0, 0)


def test_new_pictures_are_judged_and_told(trained: RunResult, folder: Path, tmp_path: Path) -> None:
    more = Path(shutil.copytree(folder, tmp_path / "more"))
    for number in range(5):
        _drawn(1000 + number).save(more / "a" / f"new{number}.png")
    found = _judged(trained.model, more)
    assert _counts(found) == (17, 0, 0)
    assert found.remarks() == [
        "17 of 65 pictures (all) whose bytes were not trained on, 12 of them held out; 48 were trained on"
    ]


def test_nothing_left_to_judge_by_is_an_error(trained: RunResult, folder: Path, tmp_path: Path) -> None:
    known = {digest.tobytes() for digest in load_bundle(trained.model).identity.trained.digests}  # type: ignore[union-attr]
    for file in folder.rglob("*.png"):
        if content_digest(file.read_bytes())[:8] in known:
            place = tmp_path / "only" / file.parent.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    with pytest.raises(DataError, match=r"all 48 pictures were trained on.*--split all"):
        _judged(trained.model, tmp_path / "only")
    with pytest.raises(DataError, match="none of the 48 pictures was held out"):
        _judged(trained.model, tmp_path / "only", split="val")


@pytest.fixture
def parts(folder: Path, tmp_path: Path) -> Path:
    """The training pictures as `train`, and a `test` of 30 others."""
    root = tmp_path / "parts"
    shutil.copytree(folder, root / "train")
    for number in range(30):
        place = root / "test" / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        _drawn(2000 + number).save(place / f"{number}.png")
    return root


def test_leaks_into_a_test_part_are_counted_and_it_stays_whole(trained: RunResult, folder: Path, parts: Path) -> None:
    assert _judged(trained.model, parts).remarks() == []
    known = [number for number in range(60) if _is_trained(trained, folder, number)][:6]
    for number in known:
        shutil.copy(
            folder / "abc"[number % 3] / f"{number}.png", parts / "test" / "abc"[number % 3] / f"leak{number}.png"
        )
    found = _judged(trained.model, parts)
    assert _counts(found) == (36, 6, 0)
    first, second = found.remarks()
    assert first.startswith("6 of these 36 pictures were trained on: ")
    assert "leak" in first
    assert first.endswith(", and 3 more")
    assert second.startswith("without them top-1 is ")
    assert found.overlap is not None
    without = found.overlap.top1_without(found.evaluation)
    clean = parts.parent / "clean"
    shutil.copytree(parts, clean)
    for file in clean.rglob("leak*"):
        file.unlink()
    assert without == pytest.approx(_judged(trained.model, clean).evaluation.top1)


def _is_trained(trained: RunResult, folder: Path, number: int) -> bool:
    identity = load_bundle(trained.model).identity
    assert identity is not None
    digest = content_digest((folder / "abc"[number % 3] / f"{number}.png").read_bytes())
    return bool(identity.trained.has(np.frombuffer(digest, np.uint8)[None])[0])


def test_resaved_copies_are_told(trained: RunResult, folder: Path, tmp_path: Path) -> None:
    """JPEG of quality 80, half the size."""
    for file in folder.rglob("*.png"):
        place = tmp_path / "resaved" / file.parent.name / f"{file.stem}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as picture:
            picture.resize((32, 32), Image.Resampling.BICUBIC).save(place, quality=80)
    found = _judged(trained.model, tmp_path / "resaved")
    judged, same, alike = _counts(found)
    assert (judged, same) == (60, 0)
    assert 46 <= alike <= 48, "95 % of the 48 that were trained on, and no other"
    assert any("look like pictures that were trained on" in line for line in found.remarks())


def test_a_model_that_does_not_know_says_so(trained: RunResult, folder: Path, parts: Path, tmp_path: Path) -> None:
    bundle = load_bundle(trained.model)
    save_bundle(tmp_path / "m.safetensors", replace(bundle, identity=None))
    found = _judged(tmp_path / "m.safetensors", folder)
    assert found.evaluation.count == 60
    assert "does not say which pictures it was trained on" in found.describe()
    assert _judged(tmp_path / "m.safetensors", parts).remarks() == []
    with pytest.raises(DataError, match="does not say which of its pictures were held out"):
        _judged(tmp_path / "m.safetensors", folder, split="val")


def test_a_part_that_the_data_lack_names_those_that_they_have(
    trained: RunResult, folder: Path, parts: Path, tmp_path: Path
) -> None:
    fix = "give one of them with --split, or leave --split out"
    (parts / "test").rename(parts / "val")
    with pytest.raises(UnknownNameError, match=rf"unknown split of parts 'test'; .*its parts: train, val; {fix}"):
        _judged(trained.model, parts, split="test")
    with pytest.raises(UnknownNameError, match=rf"its parts: all, train, val; {fix}"):
        _judged(trained.model, folder, split="test")
    bundle = load_bundle(trained.model)
    save_bundle(tmp_path / "m.safetensors", replace(bundle, identity=None))
    with pytest.raises(UnknownNameError, match=rf"its parts: all; {fix}"):
        _judged(tmp_path / "m.safetensors", folder, split="test")


def test_fine_tuning_remembers_what_the_first_weights_had_met(
    trained: RunResult, parts: Path, folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"recipe": RECIPE, "workers": 0, "device": "cpu", "out": tmp_path / "tuned"}
    tuned = train(parts / "test", source_model=trained.model, **options)
    identity = load_bundle(tuned.model).identity
    assert identity is not None
    assert (len(identity.trained), len(identity.held_out)) == (24 + 48, 6)
    assert _counts(_judged(tuned.model, folder)) == (12, 0, 0)


def test_copies_alone_are_no_measure(trained: RunResult, folder: Path, tmp_path: Path) -> None:
    for number in range(60):
        if _is_trained(trained, folder, number):
            place = tmp_path / "copies" / "abc"[number % 3] / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(folder / "abc"[number % 3] / f"{number}.png") as picture:
                picture.save(place, quality=95)
    found = _judged(trained.model, tmp_path / "copies")
    assert _counts(found) == (48, 0, 48)
    assert "NO MEASURE: all of these 48 pictures" in found.describe()


def test_unknown_first_weights_are_told(trained: RunResult, parts: Path, tmp_path: Path) -> None:
    public = tmp_path / "public.safetensors"
    save_bundle(public, replace(load_bundle(trained.model), identity=None))
    options: dict[str, Any] = {"recipe": RECIPE, "workers": 0, "device": "cpu", "out": tmp_path / "tuned"}
    tuned = train(parts / "test", source_model=public, **options)
    assert any("not known" in line for line in _judged(tuned.model, parts / "test").remarks())
    again = train(parts / "test", source_model=tuned.model, **options | {"out": tmp_path / "again"})
    assert any("not known" in line for line in _judged(again.model, parts / "test").remarks()), "nor from there"


def test_held_out_pictures_that_are_trained_on_are_told_by_training(
    trained: RunResult, folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"recipe": RECIPE.replaced(epochs=1), "workers": 0, "device": "cpu"}
    copied = train(folder, val=str(folder), model="plain_mlp_2", image_size=16, out=tmp_path / "copied", **options)
    assert any("60 of the 60 held-out pictures are among those trained on" in line for line in copied.remarks)
    tuned = train(folder, source_model=trained.model, seed=5, out=tmp_path / "tuned", **options)
    assert any("held-out pictures are among those trained on" in line for line in tuned.remarks)
    assert not any("among those trained on" in line for line in trained.remarks)


def test_classes_matched_by_order_are_named(folder: Path, tmp_path: Path) -> None:
    numbered = tmp_path / "numbered"
    for number, name in enumerate("abc"):
        shutil.copytree(folder / name, numbered / str(number))
    options: dict[str, Any] = {"recipe": RECIPE.replaced(epochs=1), "workers": 0, "device": "cpu", "image_size": 16}
    model = train(numbered, model="plain_mlp_2", out=tmp_path / "run", **options).model
    assert "classes are matched by order (0 = a, 1 = b, 2 = c)" in _judged(model, folder).describe()
    assert "by order" not in _judged(model, numbered).describe()


def test_the_command_line_says_it(trained: RunResult, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["evaluate", str(trained.model), str(folder), "--workers", "0", "--device", "cpu", "--engine", "eager"]
    with pytest.raises(SystemExit) as ended:
        main(common)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("12 held-out of 60 pictures; 48 were trained on\n")
    with pytest.raises(SystemExit):
        main([*common, "--split", "all", "--json"])
    plain = json.loads(capsys.readouterr().out)
    assert plain["overlap"] == {
        "pictures": 60, "judged": "everything", "trained_on": 48, "looks_trained_on": 0,
        "top1_without_these": pytest.approx(trained.evaluation.top1),
    }  # fmt: skip
    assert plain["remarks"][0].startswith("NO MEASURE")
