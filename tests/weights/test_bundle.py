"""A model file gives back what was put in, or says in one line what is wrong with it."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from skipway.data.identity import Identity, Seen
from skipway.data.mean_image import MeanImage
from skipway.errors import ModelFileError, SpecError, UnknownNameError
from skipway.models.alexnet import AlexNetSpec, Conv, Pool
from skipway.models.blocks import Stem, stage
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.training.choice import preprocessing_for
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from skipway.weights.identity import identity_of, identity_tensors
from skipway.weights.model_header import FORMAT, seal_of
from skipway.workflows import export_model

# One of each kind of network, none of them large.
TWO_TOWERS = AlexNetSpec(
    name="two towers",
    num_classes=3,
    input_size=31,
    convs=(Conv(8, 5, stride=2, after=("norm", "pool")), Conv(12, 3, groups=2, after=("pool", "norm", "dropout"))),
    hidden=(10,),
    pool=Pool(3, 2, "ceil"),
)
PRE_ACTIVATED = ResNetV2Spec(
    name="pre-activated",
    num_classes=4,
    input_size=24,
    preprocessing="slim_v2",
    stem=Stem(pool="same", bias=True),
    blocks=(stage("stage1", "bottleneck", 4, 2, stride=2, strided_unit="last"),),
)
SPECS: tuple[Spec, ...] = (
    TWO_TOWERS,
    PRE_ACTIVATED,
    replace(find_spec("alexnet.mnist"), hidden=(16,)),
    find_spec("resnet_v1_20.cifar"),
)


def bundle_of(spec: Spec, **fields: Any) -> Bundle:
    """A bundle with freshly drawn weights."""
    labels = tuple(f"class {i}" for i in range(spec.num_classes))
    return Bundle(spec, preprocessing_for(spec), labels, dict(spec.build().state_dict()), **fields)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good model file."""
    path = tmp_path / "model.safetensors"
    save_bundle(path, bundle_of(TWO_TOWERS))
    return path


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_what_goes_in_comes_out_bit_for_bit(spec: Spec, tmp_path: Path) -> None:
    labels = tuple(["", "Größe\n", "猫", '"; --', "\x1b[31m", "\udce9", *map(str, range(20))][: spec.num_classes])
    provenance = {"tool": "test", "seed": 7, "nested": {"list": [1, 2.5, None, True]}}
    before = replace(bundle_of(spec, provenance=provenance, metrics={"top1": 0.1 + 0.2}), labels=labels)
    save_bundle(tmp_path / "model.safetensors", before)
    after = load_bundle(tmp_path / "model.safetensors")
    assert (after.spec, after.preprocessing, after.labels) == (before.spec, before.preprocessing, before.labels)
    assert (after.provenance, after.metrics) == (before.provenance, before.metrics)
    assert after.tensors.keys() == before.tensors.keys()
    for name, tensor in before.tensors.items():
        assert after.tensors[name].dtype == tensor.dtype
        assert torch.equal(after.tensors[name], tensor), name
    assert [one.name for one in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_network_gives_the_same_logits(spec: Spec, tmp_path: Path) -> None:
    network = spec.build()
    network.train()
    network(torch.randn(8, spec.in_channels, spec.input_size, spec.input_size))  # running statistics of its own
    network.eval()
    tensors = dict(network.state_dict())
    save_bundle(tmp_path / "m.safetensors", replace(bundle_of(spec), tensors=tensors))
    loaded = load_bundle(tmp_path / "m.safetensors").network()
    x = torch.randn(2, spec.in_channels, spec.input_size, spec.input_size)
    assert not loaded.training
    assert torch.equal(loaded(x), network(x))
    buffers = dict(network.named_buffers())
    assert dict(loaded.named_buffers()).keys() == buffers.keys()
    for name, buffer in loaded.named_buffers():  # the bands of response normalization travel in no file
        assert not buffer.is_meta
        assert torch.equal(buffer, buffers[name]), name


def with_mean_image(bundle: Bundle) -> Bundle:
    size = bundle.preprocessing.size
    image = MeanImage(torch.rand(3, size, size) * 255)
    return replace(bundle, preprocessing=replace(bundle.preprocessing, mean=image.channels, mean_image=image))


def test_a_mean_image_travels_beside_the_weights(tmp_path: Path) -> None:
    before = with_mean_image(bundle_of(TWO_TOWERS))
    save_bundle(tmp_path / "m.safetensors", before)
    after = load_bundle(tmp_path / "m.safetensors")
    assert after.preprocessing == before.preprocessing
    assert after.tensors.keys() == before.tensors.keys()
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert torch.equal(after.preprocessing.tensor(picture), before.preprocessing.tensor(picture))
    with safe_open(tmp_path / "m.safetensors", "pt") as opened:
        assert "mean_image" not in json.loads(opened.metadata()["skipway"])["preprocessing"]


def test_a_changed_mean_image_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_bundle(path, with_mean_image(bundle_of(TWO_TOWERS)))
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
    (extra,) = set(tensors) - set(bundle_of(TWO_TOWERS).tensors)
    tensors[extra][0, 0, 0] += 1
    save_file(tensors, path, metadata)
    assert "not those that were written" in refusal(path)
    del tensors[extra]
    save_file(tensors, path, metadata)
    assert "not those that were written" in refusal(path)


@pytest.mark.parametrize(("old", "new"), [("keras_v1", "keras_caffe"), ("keras_v2", "keras_tf")])
def test_conventions_by_their_early_names_are_understood(file: Path, old: str, new: str) -> None:
    reheaded(file, _set("spec", "preprocessing", to=old))
    assert load_bundle(file).spec.preprocessing == new


def test_a_loaded_network_can_be_trained(file: Path) -> None:
    network = load_bundle(file).network().train()
    network(torch.randn(2, 3, 31, 31)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_two_networks_of_a_file_keep_apart(file: Path) -> None:
    first, second = load_bundle(file).network(), load_bundle(file).network()
    with torch.no_grad():
        first.logits.weight.zero_()  # type: ignore[union-attr]
    assert second.logits.weight.abs().sum() > 0  # type: ignore[union-attr]


def test_tensors_on_other_strides_are_saved(tmp_path: Path) -> None:
    spec = SPECS[-1]
    network = spec.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_bundle(tmp_path / "m.safetensors", replace(bundle_of(spec), tensors=dict(network.state_dict())))
    loaded = load_bundle(tmp_path / "m.safetensors").tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())


# ----------------------------------------------------------------------------------------------------- bad files


def refusal(file: Path) -> str:
    """The message of the refusal: one line that names the file and, after a semicolon, the fix."""
    with pytest.raises(ModelFileError) as caught:
        load_bundle(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    assert "; " in message
    assert len(message) < 600
    return message


def reheaded(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the skipway entry of a file's header, sealed; `change` edits it in place or returns another value."""
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    plain = json.loads(header["__metadata__"]["skipway"])
    other = change(plain)
    if isinstance(plain, dict) and "seal" in plain:
        plain["seal"] = seal_of(plain)
    header["__metadata__"]["skipway"] = other if isinstance(other, str) else json.dumps(plain)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_missing_file_and_a_folder_say_where_model_files_come_from(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.safetensors"):
        assert "no model file" in refusal(path)


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert "damaged" in refusal(file)


def test_a_file_with_something_behind_it_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0" * 100)
    assert "damaged" in refusal(file)


@pytest.mark.parametrize("place", range(8))
def test_a_flipped_length_is_refused(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 0xFF
    file.write_bytes(data)
    assert "damaged" in refusal(file)


def test_flipped_bytes_of_the_header_never_crash(file: Path) -> None:
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    draw = random.Random(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(data)
        changed[8 + draw.randrange(length)] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
        try:
            load_bundle(file)  # a letter of the source's name may flip unseen
        except ModelFileError as error:
            refused += 1
            assert "; " in str(error)
    assert refused > 30


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"\0" * 5000, b"\xff" * 5000])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    assert "no model file" in refusal(tmp_path / "m.safetensors")


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save(Bomb(), tmp_path / "m.safetensors")
    refusal(tmp_path / "m.safetensors")
    assert not (tmp_path / "exploded").exists()


def test_weights_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "m.safetensors", {"format": "pt"})
    assert "no skipway header" in refusal(tmp_path / "m.safetensors")


def test_a_newer_format_asks_for_an_update(file: Path) -> None:
    def newer(plain: dict[str, Any]) -> None:
        plain.clear()  # a newer header may look like anything
        plain |= {"format": FORMAT + 1, "novelty": [1, 2]}

    reheaded(file, newer)
    assert f"newer skipway (format {FORMAT + 1}); update" in refusal(file)


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(plain: Any) -> None:
        for key in path[:-1]:
            plain = plain[key]
        plain[path[-1]] = to

    return change


def _without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(plain: Any) -> None:
        for key in path[:-1]:
            plain = plain[key]
        del plain[path[-1]]

    return change


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no JSON": (lambda _: "{", "damaged"),
    "a list": (lambda _: "[1]", "damaged"),
    "a number": (lambda _: "7", "damaged"),
    "too deep": (lambda _: "[" * 100_000 + "]" * 100_000, "damaged"),
    "format left out": (_without("format"), "lacks 'format'"),
    "format a text": (_set("format", to="1"), "damaged"),
    "spec left out": (_without("spec"), "lacks 'spec'"),
    "preprocessing left out": (_without("preprocessing"), "lacks 'preprocessing'"),
    "labels left out": (_without("labels"), "lacks 'labels'"),
    "a label too few": (_set("labels", to=["a", "b"]), "2 labels for 3 classes"),
    "a label too many": (_set("labels", to=["a", "b", "c", "d"]), "4 labels for 3 classes"),
    "labels a text": (_set("labels", to="abc"), "list of texts"),
    "labels numbers": (_set("labels", to=[1, 2, 3]), "list of texts"),
    "spec a list": (_set("spec", to=[]), "architecture"),
    "spec a text": (_set("spec", to="alexnet"), "damaged"),
    "architecture unknown": (_set("spec", "architecture", to="densenet"), "'densenet' is not one"),
    "architecture left out": (_without("spec", "architecture"), "architecture"),
    "architecture a list": (_set("spec", "architecture", to=["alexnet"]), "damaged"),
    "architecture another": (_set("spec", "architecture", to="resnet_v1"), "unknown key"),
    "spec with a field of its own": (_set("spec", "swish", to=True), "unknown key of the spec of alexnet 'swish'"),
    "spec lacks a field": (_without("spec", "convs"), "lacks convs"),
    "field of another type": (_set("spec", "num_classes", to="3"), "num_classes is '3'; it must be a whole number"),
    "field out of range": (_set("spec", "dropout", to=2.0), "dropout is 2.0"),
    "field not finite": (_set("spec", "dropout", to=float("nan")), "finite"),
    "initialization unknown": (_set("spec", "initialization", to="magic"), "unknown initialization 'magic'"),
    "network for another picture": (_set("spec", "input_size", to=63), "31 pixels a side, two towers takes 63"),
    "network for grey pictures": (_set("spec", "in_channels", to=1), "3 channels, two towers takes 1"),
    "too large a stride": (_set("spec", "convs", 0, "stride", to=10**30), "below 2\\*\\*63"),
    "too large to build": (_set("spec", "hidden", to=[2**62, 2**62]), "2 missing"),
    "layers of other sizes": (_set("spec", "hidden", to=[11]), r"fc3\.fc\.weight is \(10, .*needs \(11, "),
    "a layer more": (_set("spec", "hidden", to=[10, 10]), "2 missing .*fc4"),
    "a layer less": (_set("spec", "hidden", to=[]), "2 surplus .*fc3"),
    "preprocessing for other pictures": (_set("preprocessing", "size", to=30), "30 pixels a side"),
    "preprocessing grey": (_set("preprocessing", "channels", to="L"), "needs 1 mean "),
    "preprocessing of another kind": (_set("preprocessing", "kernel", to="magic"), "kernel is 'magic'"),
    "preprocessing with a field of its own": (_set("preprocessing", "gamma", to=2.2), "'gamma'"),
    "preprocessing lacks its size": (_without("preprocessing", "size"), "lacks size"),
    "preprocessing with a mean image of its own": (_set("preprocessing", "mean_image", to=[[[1.0]]]), "mean_image"),
    "preprocessing not finite": (_set("preprocessing", "scale", to=float("inf")), "finite"),
    "preprocessing huge": (_set("preprocessing", "resize_to", to=10**9), "cuts"),
    "provenance a number": (_set("provenance", to=3), "damaged"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_strange_header_is_refused(file: Path, name: str) -> None:
    change, told = HEADERS[name]
    reheaded(file, change)
    with pytest.raises(ModelFileError, match=told):
        load_bundle(file)
    refusal(file)


def _changed(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    tensors = dict(tensors)
    if name == "missing":
        del tensors["logits.bias"]
    elif name == "surplus":
        tensors["logits.scale"] = torch.ones(1)
    elif name == "shape":
        tensors["logits.bias"] = torch.zeros(1, 3)
    elif name == "dtype":
        tensors["logits.bias"] = tensors["logits.bias"].double()
    return tensors


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing", r"1 missing \['logits\.bias'\]"),
        ("surplus", r"1 surplus \['logits\.scale'\]"),
        ("shape", r"logits\.bias is \(1, 3\)"),
        ("dtype", r"logits\.bias is \(3,\) torch\.float64, two towers needs \(3,\) torch\.float32"),
    ],
)
def test_weights_that_do_not_fit_are_refused(file: Path, name: str, told: str) -> None:
    bundle = bundle_of(TWO_TOWERS)
    save_bundle(file, replace(bundle, tensors=_changed(bundle.tensors, name)))
    with pytest.raises(ModelFileError, match=told):
        load_bundle(file)
    refusal(file)


def test_a_bundle_of_contradictions_cannot_be_made() -> None:
    bundle = bundle_of(TWO_TOWERS)
    with pytest.raises(ModelFileError, match="2 labels for 3 classes; give one for each"):
        replace(bundle, labels=("a", "b"))
    with pytest.raises(ModelFileError, match="1 channel, two towers takes 3"):
        replace(bundle, preprocessing=preprocessing_for(replace(TWO_TOWERS, in_channels=1)))
    with pytest.raises(ModelFileError, match="32 pixels a side, two towers takes 31"):
        replace(bundle, preprocessing=replace(bundle.preprocessing, size=32, resize_to=36))


def test_errors_of_a_spec_read_as_those_of_python() -> None:
    with pytest.raises(SpecError):
        replace(TWO_TOWERS, dropout=2.0)
    with pytest.raises(UnknownNameError):
        TWO_TOWERS.replaced({"swish": True})


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    from skipway.data.preprocessing import preset
    from skipway.models.catalog import create_model
    from skipway.weights.bundle import Bundle, load_bundle, save_bundle

    network = create_model("resnet_v1_20.cifar")
    labels = tuple(str(i) for i in range(10))
    file = tmp_path / "model.safetensors"
    save_bundle(file, Bundle(network.spec, preset("cifar", 32), labels, dict(network.state_dict())))
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    with pytest.raises(ModelFileError, match="not those that were written"):
        load_bundle(file)


def test_a_model_for_others_keeps_pictures_and_paths_to_itself(tmp_path: Path, file: Path) -> None:
    digests = np.zeros((2, 8), np.uint8)
    met = Seen(digests, np.zeros((2, 64), np.uint8))
    own = replace(
        load_bundle(file), provenance={"data": "/home/me/private/cats", "seed": 3}, identity=Identity(met, met)
    )
    save_bundle(tmp_path / "own.safetensors", own)
    again = load_bundle(tmp_path / "own.safetensors").identity
    assert again is not None
    assert np.array_equal(again.trained.digests, digests)
    export_model(tmp_path / "own.safetensors", tmp_path / "public.safetensors", form="skipway")
    public = load_bundle(tmp_path / "public.safetensors")
    assert public.identity is None
    assert public.provenance == {"data": "cats", "seed": 3}
    assert all(torch.equal(tensor, own.tensors[name]) for name, tensor in public.tensors.items())
    assert b"identity." not in (tmp_path / "public.safetensors").read_bytes()
    assert b"/home/me" not in (tmp_path / "public.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "tensor", "told"),
    [
        ("identity.trained.digests", torch.zeros(2, 9, dtype=torch.uint8), "rows of 8"),
        ("identity.trained.digests", torch.zeros(2, 8), "must be bytes"),
        ("identity.trained.digests", torch.zeros(3, 8, dtype=torch.uint8), "3 digests and 2 thumbnails"),
        ("identity.more", torch.zeros(3, 8, dtype=torch.uint8), "other parts"),
    ],
)
def test_a_damaged_list_of_pictures_is_refused(name: str, tensor: torch.Tensor, told: str) -> None:
    met = Seen(np.zeros((2, 8), np.uint8), np.zeros((2, 64), np.uint8))
    tensors = identity_tensors(Identity(met, met))
    assert identity_of(tensors) is not None
    assert identity_of({}) is None
    with pytest.raises(ModelFileError, match=told):
        identity_of(tensors | {name: tensor})
