"""A model file at work."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import skipway
from skipway.errors import DataError, ModelFileError, PictureError, RunError, SkipwayError
from skipway.inference.classifier import CHUNK, Classifier, load
from skipway.machine import pick_device
from skipway.models.catalog import find_spec
from skipway.training.choice import preprocessing_for
from skipway.weights.bundle import Bundle

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return load(trained / "model.safetensors", "cpu")


def test_loading_gives_network_preprocessing_and_labels(trained: Path) -> None:
    found = skipway.load(trained / "model.safetensors")
    assert found.labels == ("blue", "green", "red")
    assert found.preprocessing.size == 16
    assert not found.network.training
    assert found.metrics["top1"] > 0.5
    logits = found.network(found.preprocessing.tensor(np.zeros((16, 16, 3), np.uint8)))
    assert logits.shape == (1, 3)


def test_pictures_are_told_apart(classifier: Classifier, colours: Path) -> None:
    files = [colours / name / "0.png" for name in classifier.labels]
    assert [answers[0].label for answers in classifier.predict(files)] == list(classifier.labels)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm"])
def test_every_way_to_give_a_picture_has_one_answer(classifier: Classifier, tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    file = tmp_path / f"picture.{suffix}"
    Image.fromarray(array).save(file)
    given = (file, str(file), file.read_bytes(), Image.open(file), Image.fromarray(array), array)
    first, *others = classifier.predict(given)
    assert all(other == first for other in others)


def test_answers_are_sorted_and_sum_to_one(classifier: Classifier, colours: Path) -> None:
    (answers,) = classifier.predict([colours / "red" / "3.png"], top=3)
    chances = [one.probability for one in answers]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1)
    assert [classifier.labels[one.index] for one in answers] == [one.label for one in answers]


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (5, 3), (10**9, 3)])
def test_top_is_at_most_the_number_of_classes(classifier: Classifier, colours: Path, top: int, count: int) -> None:
    (answers,) = classifier.predict([colours / "red" / "0.png"], top)
    assert len(answers) == count


def test_no_pictures_no_answers(classifier: Classifier) -> None:
    assert classifier.predict([]) == []
    assert classifier.predict(np.zeros((0, 16, 16, 3), np.uint8)) == []  # type: ignore[arg-type]


def test_more_pictures_than_a_chunk(classifier: Classifier) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (CHUNK + 3, 16, 16, 3), dtype=np.uint8)
    answers = classifier.predict(pictures)  # type: ignore[arg-type]
    assert len(answers) == CHUNK + 3
    assert answers[-1][0].probability == pytest.approx(classifier.predict(pictures[-1:])[0][0].probability, abs=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("single", ["cat.png", Path("cat.png"), b"\x89PNG", Image.new("RGB", (8, 8))])
def test_a_picture_without_its_list_is_refused(classifier: Classifier, single: object) -> None:
    with pytest.raises(DataError, match=r"list of pictures.*give \[picture\]"):
        classifier.predict(single)  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [0, -1, "x", None, 1.5])
def test_top_is_one_or_more(classifier: Classifier, top: Any) -> None:
    with pytest.raises(SkipwayError, match=f"top is {top!r}; give a whole number, 1 or more"):
        classifier.predict([np.zeros((16, 16, 3), np.uint8)], top)


@pytest.mark.parametrize("wrong", [None, 3, b"model.safetensors"])
def test_what_is_no_path_is_named_with_its_fix(wrong: Any) -> None:
    kind = type(wrong).__name__
    with pytest.raises(ModelFileError, match=f"^the model file is of type {kind}; give its path$"):
        skipway.load(wrong)
    with pytest.raises(ModelFileError, match=f"^the model file is of type {kind}; give its path$"):
        skipway.evaluate(wrong, "digits")
    with pytest.raises(RunError, match=f"^the run folder is of type {kind}; give its path$"):
        skipway.resume(wrong)


def test_a_picture_that_cannot_be_read_is_named(classifier: Classifier, colours: Path) -> None:
    with pytest.raises(PictureError, match=r"none\.png: cannot be read"):
        classifier.predict([colours / "red" / "0.png", colours / "none.png"])
    with pytest.raises(PictureError, match="no picture"):
        classifier.predict([b"hello"])
    with pytest.raises(DataError, match="uint8"):
        classifier.predict([np.zeros((16, 16, 3))])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_any_mode_are_answered(classifier: Classifier, mode: str) -> None:
    assert len(classifier.predict([Image.new(mode, (20, 9))])[0]) == 3


def test_a_grey_network_takes_colour_and_grey() -> None:
    spec = replace(find_spec("alexnet.mnist"), hidden=(8,))
    bundle = Bundle(spec, preprocessing_for(spec), tuple("0123456789"), dict(spec.build().state_dict()))
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    first, second, third = Classifier(bundle, CPU).predict([grey, grey[:, :, None], colour])
    assert first == second == third


def test_a_dense_network_is_refused() -> None:
    spec = find_spec("resnet_v1_20.cifar").replaced({"global_pool": False})
    bundle = Bundle(spec, preprocessing_for(spec), tuple("0123456789"), dict(spec.build().state_dict()))
    with pytest.raises(SkipwayError, match="each pixel of a map; give a model with a global pool"):
        Classifier(bundle, CPU).predict([np.zeros((32, 32, 3), np.uint8)])


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in {"cpu", "cuda"}
    with pytest.raises(SkipwayError, match="unknown device 'gpu'; give auto, cpu or cuda"):
        pick_device("gpu")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    with pytest.raises(SkipwayError, match="no CUDA device that torch can use; give --device cpu"):
        pick_device("cuda")


def test_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"hello")
    with pytest.raises(ModelFileError):
        load(tmp_path / "model.safetensors")


def _encoded(colour: tuple[int, int, int]) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(held, "PNG")
    return held.getvalue()


def test_open_files_and_all_kinds_of_bytes_are_taken(trained: Path, tmp_path: Path) -> None:
    classifier = load(trained / "model.safetensors", "cpu")
    data = _encoded((200, 30, 30))
    file = tmp_path / "red.png"
    file.write_bytes(data)
    written = io.BytesIO()
    written.write(data)  # and not rewound
    with file.open("rb") as opened, file.open("rb", buffering=0) as raw:
        given = [io.BytesIO(data), written, opened, raw, data, bytearray(data), memoryview(data), file, str(file)]
        answers = classifier.predict(given, top=1)
        assert not opened.closed
    assert len(answers) == 9
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, r"pictures\[1\] is of type NoneType; give a path, the bytes"),
        (5, r"pictures\[1\] is of type int; give"),
        (CPU, r"pictures\[1\] is of type device; give"),
        (io.StringIO("text"), r"pictures\[1\]: gives str, not bytes; open the file with mode 'rb'"),
        (io.BytesIO(), r"pictures\[1\]: is empty"),
        (io.BytesIO(b"no picture"), r"pictures\[1\]: is no picture"),
    ],
)
def test_what_is_no_picture_is_named_by_its_place(trained: Path, wrong: object, message: str) -> None:
    classifier = load(trained / "model.safetensors", "cpu")
    with pytest.raises(DataError, match=message):
        classifier.predict([_encoded((0, 0, 200)), wrong])  # type: ignore[list-item]


def test_a_closed_file_says_so(trained: Path) -> None:
    closed = io.BytesIO(_encoded((0, 0, 200)))
    closed.close()
    with pytest.raises(DataError, match=r"pictures\[0\]: cannot be read .*open it again"):
        load(trained / "model.safetensors", "cpu").predict([closed])


def test_an_endless_open_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from skipway.data import pictures

    monkeypatch.setattr(pictures, "MAX_BYTES", 10**7)
    with open("/dev/zero", "rb") as endless, pytest.raises(DataError, match="has more than 10,000,000 bytes"):  # noqa: PTH123
        pictures.open_picture(endless)


@pytest.mark.parametrize(
    "single",
    [
        io.BytesIO(b""),
        b"",
        bytearray(),
        memoryview(b""),
        Path("x"),
        "x",
        Image.new("L", (2, 2)),
        np.zeros((2, 2, 3), np.uint8),
    ],
)
def test_a_single_picture_is_no_list(trained: Path, single: object) -> None:
    with pytest.raises(DataError, match=r"not a picture; give \[picture\]"):
        load(trained / "model.safetensors", "cpu").predict(single)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, 5, {"a": 1}, iter([])])
def test_what_cannot_be_counted_is_no_list(trained: Path, given: object) -> None:
    with pytest.raises(DataError, match="takes a list of pictures"):
        load(trained / "model.safetensors", "cpu").predict(given)  # type: ignore[arg-type]
