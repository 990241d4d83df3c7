"""Judging by an engine: the same answers, the loss of a coarser arithmetic beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.contracts.tiny import CLASSES, tiny
from tests.marks import slow_but

from skipway.data.preprocessing import preset
from skipway.errors import DataError, SkipwayError
from skipway.evaluation.judge import _aligned, evaluate
from skipway.inference.classifier import load
from skipway.inference.engines import EngineError
from skipway.weights.bundle import Bundle, save_bundle

LABELS = tuple("01234")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    spec = tiny("highway_19.cifar")
    network = spec.build()
    file = tmp_path / "model.safetensors"
    save_bundle(file, Bundle(spec, preset("torch", spec.input_size), LABELS, dict(network.state_dict())))
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    dice = np.random.default_rng(0)
    file = tmp_path / "data.npz"
    side = tiny("highway_19.cifar").input_size
    pictures = dice.integers(0, 256, (40, side, side, 3), dtype=np.uint8)
    np.savez(file, x=pictures, y=np.arange(40) % CLASSES)
    return file


@pytest.mark.parametrize("engine", slow_but(["eager", "onnxruntime", "openvino"], quick=["eager", "onnxruntime"]))
def test_an_engine_judges_as_the_network_does(model: Path, data: Path, engine: str) -> None:
    wanted = evaluate(model, data)
    found = evaluate(model, data, engine=engine, batch_size=16)
    assert found.engine == engine
    assert found.evaluation.loss == pytest.approx(wanted.evaluation.loss, rel=1e-5)
    assert found.evaluation.confusion == wanted.evaluation.confusion
    assert f"answered by {engine}" in found.describe()
    assert found.to_dict()["engine"] == engine


@pytest.mark.slow
def test_a_coarser_arithmetic_is_judged_beside_the_exact_one(model: Path, data: Path) -> None:
    with pytest.raises(SkipwayError, match="--calibrate"):
        evaluate(model, data, engine="onnxruntime", precision="int8")
    found = evaluate(model, data, engine="onnxruntime", precision="int8", calibrate=data)
    assert found.exact is not None
    assert found.to_dict()["fp32_top1"] == evaluate(model, data).evaluation.top1
    assert "points are lost" in found.describe()
    # The second time the ranges are those in the cache.
    again = evaluate(model, data, engine="onnxruntime", precision="int8")
    assert again.evaluation.confusion == found.evaluation.confusion


def test_predictions_by_an_engine_are_the_networks(model: Path, user_cache: Path) -> None:
    classifier = load(model)
    before = sorted(file.name for file in model.parent.iterdir())
    picture = np.full((50, 60, 3), 90, np.uint8)
    wanted = classifier.predict([picture])
    classifier.use("onnxruntime", batch_size=1)
    (found,), (plain,) = classifier.predict([picture]), wanted
    assert [one.label for one in found] == [one.label for one in plain]
    assert [one.probability for one in found] == pytest.approx([one.probability for one in plain], rel=1e-4)
    assert sorted(file.name for file in model.parent.iterdir()) == before
    assert len(list((user_cache / "engines").iterdir())) == 1


def test_few_pictures_are_answered_by_the_network_itself(model: Path, user_cache: Path) -> None:
    classifier = load(model)
    classifier.use("auto", pictures=3)
    assert classifier.engine is classifier.network
    assert not user_cache.exists()


def test_bad_calibration_data_and_engines_are_told(model: Path, tmp_path: Path) -> None:
    classifier = load(model)
    few = tmp_path / "few.npz"
    side = classifier.spec.input_size
    np.savez(few, x=np.zeros((5, side, side, 3), np.uint8), y=np.arange(5))
    with pytest.raises(DataError, match="5 pictures are too few"):
        classifier.use("onnxruntime", precision="int8", calibrate=few)
    with pytest.raises(EngineError, match="give --engine"):
        classifier.use("eager", precision="int8")


@pytest.mark.parametrize(
    ("named", "known", "expected"),
    [
        ("cat dog owl", "0 1 2", [2, 0, 1]),  # nobody has named the model's classes: by order
        ("2 0 1", "0 1 2", [1, 2, 0]),  # numbers on both sides are names
        ("dog cat owl", "cat dog owl", [2, 1, 0]),
    ],
)
def test_classes_without_names_are_matched_by_order(named: str, known: str, expected: list[int]) -> None:
    assert _aligned(np.array([2, 0, 1]), named.split(), known.split(), "data").tolist() == expected


def test_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="does not know: cat"):
        _aligned(np.array([0, 1]), ["cat", "dog"], ["0", "1", "2"], "data")
