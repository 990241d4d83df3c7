"""Numbers of a header become nothing before the file bounds them: refused at once, in one line, within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hostile_headers import Model, families, mutations, tried

from skipway.data.mean_image import MeanImage
from skipway.data.preprocessing import Preprocessing
from skipway.errors import ModelFileError, RunError, SkipwayError
from skipway.inference.classifier import load
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.catalog import create_model, find_spec
from skipway.training.choice import preprocessing_for
from skipway.weights.agreement import require_affordable
from skipway.weights.bundle import Bundle, load_bundle, save_bundle


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return families()


def put(model: Model, *path: Any, to: Any) -> None:
    owner: Any = model.entry
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = to


def sized(model: Model, side: int) -> None:
    for part, key in (("spec", "input_size"), ("preprocessing", "size"), ("preprocessing", "resize_to")):
        put(model, part, key, to=side)


CASES: dict[str, tuple[str, Callable[[Model], None], str]] = {
    "a thousand million layers": (
        "highway_mlp_3", lambda model: put(model, "spec", "layers", to=10**9), "more tensors than the 12 of the file"),
    "input of 16,384": ("v1", lambda model: sized(model, 16_384), "16,384 pixels a side"),
    "input of 4,097": ("p", lambda model: sized(model, 4097), "at most 4,096"),
    "resized to far more than is cut": (
        "p", lambda model: put(model, "preprocessing", "resize_to", to=16_000), "give a larger cut"),
    "no pixel left": ("h", lambda model: put(model, "preprocessing", "central", to=1e-300), "share from 0.01"),
    "scale beyond fp32": ("h", lambda model: put(model, "preprocessing", "scale", to=1e308), "scale of 1e\\+308"),
    "deviation below fp32": (
        "h", lambda model: put(model, "preprocessing", "std", to=[1e-300, 1, 1]), "deviation of 1e-300"),
    "mean beyond fp32": ("h", lambda model: put(model, "preprocessing", "mean", to=[1e300, 0, 0]), "mean of 1e\\+300"),
    "a wide stride": ("v1", lambda model: put(model, "spec", "stem", "stride", to=10**15), "smallest is|stride of"),
    "a pool as wide as no picture": ("a", lambda model: put(model, "spec", "pool", "kernel", to=10**15), "smallest is"),
    "padding without end": ("a", lambda model: put(model, "spec", "convs", 0, "padding", to=10**15), "padding of"),
    "a list without end": (
        "v2", lambda model: put(model, "spec", "blocks", 0, "rows", to=[[8, 2, 1]] * 300_000), "more lists|lists more"),
    "a row more": (
        "v2", lambda model: model.entry["spec"]["blocks"][0]["rows"].append([8, 2, 1]), "missing"),
    "a mean image of two axes": (
        "v2", lambda model: model.tensors.update({"preprocessing.mean_image": model.tensors.pop("logits.bias")}),
        "mean image has the shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_claims_that_no_tensor_bears_out_are_refused_at_once(
    name: str, models: dict[str, Model], tmp_path: Path
) -> None:
    import copy
    import re

    family, change, told = CASES[name]
    model = copy.deepcopy(models[family])
    change(model)
    model.signed()
    found = tried(model.encoded(), tmp_path / "m.safetensors")
    assert found.kind == "refused", found
    assert re.search(told, found.message), found.message


def test_mutated_headers_are_refused_in_one_line_or_give_finite_answers(tmp_path: Path) -> None:
    for (told, data), _ in zip(mutations(0), range(60), strict=False):
        found = tried(data, tmp_path / "m.safetensors")
        assert found.good, f"{told}: {found}"


def test_the_mutations_are_a_function_of_the_seed() -> None:
    first, again = ([data for (_, data), _ in zip(mutations(3), range(5), strict=False)] for _ in range(2))
    assert first == again


def test_response_norm_over_many_channels_takes_memory_in_proportion_to_the_file(tmp_path: Path) -> None:
    convs = (Conv(15_000, 1, after=("norm",)),)
    spec = AlexNetSpec(name="w", num_classes=2, input_size=8, convs=convs, hidden=(), average_to=1)
    file = tmp_path / "m.safetensors"
    save_bundle(file, Bundle(spec, preprocessing_for(spec), ("a", "b"), dict(spec.build().state_dict())))
    found = tried(file.read_bytes(), file)
    assert found.kind == "answered"
    assert found.memory < 4 * file.stat().st_size + (200 << 20)


def test_answers_that_are_no_numbers_are_an_error(models: dict[str, Model], tmp_path: Path) -> None:
    import copy

    model = copy.deepcopy(models["v1"])
    model.tensors["logits.weight"]["data_offsets"]
    begin, end = model.tensors["logits.weight"]["data_offsets"]
    model.data[begin:end] = np.full((end - begin) // 4, math.nan, "<f4").tobytes()
    model.signed()
    (tmp_path / "m.safetensors").write_bytes(model.encoded())
    with pytest.raises(SkipwayError, match="weights that are not finite numbers; import or train it again"):
        load(tmp_path / "m.safetensors", "cpu").predict([np.zeros((20, 20, 3), np.uint8)])


def test_what_one_picture_takes_is_compared_with_the_memory(tmp_path: Path) -> None:
    spec = find_spec("resnet_v1_20.cifar").replaced({"input_size": 4096})
    require_affordable(spec, tmp_path, available=64 << 30)
    with pytest.raises(ModelFileError, match=r"needs 3\.0 GiB or more for one picture .* use a machine"):
        require_affordable(spec, tmp_path, available=1 << 30)


def test_a_person_may_type_a_size_that_no_model_file_has(tmp_path: Path) -> None:
    network = create_model("resnet_v1_20.cifar", input_size=5000)
    spec = network.spec
    labels = tuple(map(str, range(10)))
    bundle = Bundle(spec, preprocessing_for(spec), labels, dict(network.state_dict()))
    with pytest.raises(ModelFileError, match=r"5,000 pixels a side, and a model file at most 4,096"):
        save_bundle(tmp_path / "m.safetensors", bundle)


@pytest.mark.parametrize("side", [299, 4096])
def test_the_largest_sides_are_read(side: int, tmp_path: Path) -> None:
    spec = find_spec("plain_mlp_2").replaced({"input_size": side, "width": 1, "preprocessing": "torch"})
    preprocessing = preprocessing_for(spec)
    bundle = Bundle(spec, preprocessing, tuple(map(str, range(10))), dict(spec.build().state_dict()))
    save_bundle(tmp_path / "m.safetensors", bundle)
    assert load_bundle(tmp_path / "m.safetensors").spec == spec


@pytest.mark.parametrize(
    "fields", [{"scale": math.nan}, {"scale": math.inf}, {"mean": (math.nan, 0.0, 0.0)}, {"std": (1.0, math.inf, 1.0)},
               {"central": math.nan}, {"central": 0.0099}])  # fmt: skip
def test_numbers_without_sense_make_no_preprocessing(fields: dict[str, Any]) -> None:
    with pytest.raises(SkipwayError, match="; give"):
        Preprocessing(8, **fields)


def test_the_smallest_share_leaves_a_pixel() -> None:
    for side in (1, 2, 3, 8, 101, 4000):
        picture = np.zeros((side, side, 3), np.uint8)
        assert Preprocessing(4, central=0.01).tensor(picture).isfinite().all()


def test_a_mean_image_travels_through_the_checks(tmp_path: Path) -> None:
    spec = find_spec("resnet_v1_20.cifar")
    image = MeanImage(np.full((3, 32, 32), 7.0, np.float32))
    rule = Preprocessing(32, mean=image.channels, mean_image=image)
    labels = tuple(map(str, range(10)))
    save_bundle(tmp_path / "m.safetensors", Bundle(spec, rule, labels, dict(spec.build().state_dict())))
    assert load_bundle(tmp_path / "m.safetensors").preprocessing == rule


def test_a_checkpoints_spec_is_held_against_its_weights() -> None:
    from skipway.training.run import checked_spec

    spec = find_spec("plain_mlp_3").replaced({"width": 2, "input_size": 4})
    weights = dict(spec.build().state_dict())
    assert checked_spec(spec.to_dict(), weights, Path("run")) == spec
    for changes in ({"layers": 10**9}, {"input_size": 5000}, {"width": 3}, {"paper": ["x"] * 10**6}):
        with pytest.raises(RunError, match=r"the checkpoint of run is damaged .*; begin a new run"):
            checked_spec({**spec.to_dict(), **changes}, weights, Path("run"))


def test_training_refuses_a_size_whose_model_file_could_not_be_read(tmp_path: Path) -> None:
    from skipway.training.run import train

    with pytest.raises(SkipwayError, match="--image-size is 5000; give pixels up to 4,096"):
        train("digits", model="resnet_v1_20.cifar", image_size=5000, out=tmp_path / "run")
    wide = find_spec("resnet_v1_20.cifar").replaced({"input_size": 5000})
    with pytest.raises(SkipwayError, match="5,000 pixels a side, and a model file at most 4,096"):
        train("digits", model=wide, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_hostile_files_at_hand_are_answered_at_once(real_data: Path, tmp_path: Path) -> None:
    files = sorted((real_data / "cases" / "hostile").glob("*.safetensors"))
    if not files:
        pytest.skip("no hostile files at hand")
    for file in files:
        outcome = tried(file.read_bytes(), tmp_path / "hostile.safetensors")
        assert outcome.good, f"{file.name}: {outcome}"
