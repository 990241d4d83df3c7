"""Where imports go wrong without a word: each mistake is planted, and caught or handled.

Most are planted into a model that a framework's own file gave, which answers as the framework did. So whatever differs
then comes from the mistake alone, and an import that made it would not pass `test_importing`.
"""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.tiny import filled, relative, tiny
from tests.interchange.imported import SAME, apart, copied, shuffled
from tests.interchange.test_importing import _rewritten
from tests.interchange.test_keras_topology import FIXTURES as TOPOLOGIES
from tests.interchange.test_keras_topology import answers, expected
from tests.models.test_pitfalls import pool_before_norm, stem, strides_at_the_other_end
from tests.parity.compare import built, spec_of
from tests.parity.test_parity import CASES
from tests.parity.test_planted import caught
from torch import Tensor

from skipway.data.preprocessing import preset
from skipway.errors import ModelFileError
from skipway.interchange.exporting import export_weights
from skipway.interchange.importing import import_weights
from skipway.models import Norm, Pool, ResponseNorm
from skipway.models.alexnet import AlexNetSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle, load_bundle, save_bundle

SHOWS = 1e-4  # relative, where the right answers are within 1e-5

Fields = Callable[[Any], dict[str, Any]]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Mistake:
    """What is wrong with the model of a framework's file: fields of its spec, of its preprocessing, or its tensors."""

    what: str
    file: str
    fields: Fields = lambda spec: {}
    rule: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensors: Callable[[Tensors, Spec], Tensors] = lambda tensors, spec: {}


def alpha(factor: float) -> Fields:
    return lambda spec: {"norm": dataclasses.replace(spec.norm, alpha=spec.norm.alpha * factor)}


def eps(value: float) -> Fields:
    return lambda spec: {"norm": dataclasses.replace(spec.norm, eps=value)}


def stride_in(place: str) -> Fields:
    return lambda spec: {"stride_in": place}


def as_variance(change: Callable[[Tensor], Tensor]) -> Callable[[Tensors, Spec], Tensors]:
    return lambda tensors, spec: {key: change(value) for key, value in tensors.items() if key.endswith("running_var")}


def undivided(tensors: Tensors, spec: Spec) -> Tensors:
    """Caffe's third blob, 2 in the fixture, left out of account."""
    return {key: 2 * value for key, value in tensors.items() if key.endswith(("running_var", "running_mean"))}


def without_biases(where: str) -> Callable[[Tensors, Spec], Tensors]:
    """Biases of convolutions left out, as a reader that knows ResNets without them would."""

    def dropped(tensors: Tensors, spec: Spec) -> Tensors:
        found = {key: torch.zeros_like(value) for key, value in tensors.items() if key.endswith(f"{where}.bias")}
        assert found
        return found

    return dropped


def by_pixels(key: str) -> Callable[[Tensors, Spec], Tensors]:
    """The first dense layer in TensorFlow's order (H, W, C), not permuted."""

    def permuted(tensors: Tensors, spec: Spec) -> Tensors:
        weight, side = tensors[key], spec.flattened(spec.input_size)
        maps = weight.reshape(len(weight), -1, side, side)
        return {key: maps.permute(0, 2, 3, 1).reshape(weight.shape).contiguous()}

    return permuted


def turned(tensors: Tensors, spec: Spec) -> Tensors:
    """Kernels (H, W, in, out) read as (W, H, in, out)."""
    return {key: value.transpose(2, 3).contiguous() for key, value in tensors.items() if value.ndim == 4}


def ungrouped(spec: AlexNetSpec) -> dict[str, Any]:
    return {"convs": tuple(dataclasses.replace(row, groups=1) for row in spec.convs)}


ALEXNET, CAFFENET, ARRAYS = "alexnet_caffe/net.caffemodel", "alexnet_caffenet/net.caffemodel", "alexnet_caffe/net.npy"
CAFFE, TORCH, TIMM = "caffe_resnet_50/net.caffemodel", "torchvision_resnet_zip/model.pth", "timm_resnetv2_zip/model.pth"
SLIM_V1, SLIM_V2 = "slim_v1_saved_v1/model.ckpt", "slim_v2_saved_v2/model.ckpt"
KERAS_V1, KERAS_V2 = "keras2_v1_named/weights.h5", "keras2_v2/whole.h5"
SIGNS = "keras2_signs_frozen/whole.h5"

MISTAKES = [
    *(Mistake("alpha not divided by the window", file, alpha(5)) for file in (ALEXNET, ARRAYS)),
    *(Mistake("alpha divided twice", file, alpha(1 / 5)) for file in (ALEXNET, ARRAYS)),
    Mistake("alpha of TensorFlow", ALEXNET, lambda spec: {"norm": ResponseNorm(5, 2e-5, 0.75, 1.0)}),
    Mistake("a radius of 5", ALEXNET, lambda spec: {"norm": ResponseNorm(11, 1e-4, 0.75, 1.0)}),
    *(Mistake("groups left out", file, ungrouped) for file in (ALEXNET, ARRAYS)),
    *(Mistake("norm and pool exchanged", file, pool_before_norm) for file in (ALEXNET, CAFFENET, ARRAYS)),
    Mistake("fc6 not permuted", ARRAYS, tensors=by_pixels("fc6.fc.weight")),
    Mistake("fc6 permuted, which Caffe's is not", ALEXNET, tensors=by_pixels("fc6.fc.weight")),
    *(Mistake("height and width exchanged", file, tensors=turned) for file in (ARRAYS, SLIM_V1, KERAS_V1, KERAS_V2)),
    Mistake("stride in the 3x3", CAFFE, stride_in("middle")),
    Mistake("stride in the 3x3", KERAS_V1, stride_in("middle")),
    Mistake("stride in the 3x3", SIGNS, stride_in("middle")),
    Mistake("stride in the first 1x1", TORCH, stride_in("first")),
    Mistake("stride in the first 1x1", TIMM, stride_in("first")),
    Mistake("stride in the first 1x1", SLIM_V1, stride_in("first")),
    *(Mistake("stride at a stage's other end", file, strides_at_the_other_end)
      for file in (SLIM_V1, SLIM_V2, KERAS_V2)),
    *(Mistake("no biases where no norm follows", SLIM_V2, tensors=without_biases(where))
      for where in ("stem.conv", "shortcut", "conv3")),
    Mistake("no biases before the norms", KERAS_V1, tensors=without_biases("conv2")),
    Mistake("no bias of the stem", CAFFE, tensors=without_biases("stem.conv")),
    Mistake("-inf pad for a pad of zeros", KERAS_V2, stem(pool="symmetric")),
    Mistake("padded pool", SIGNS, stem(pool="symmetric")),
    Mistake("Keras's default eps", KERAS_V1, eps(1e-3)),
    Mistake("Keras's default eps", SLIM_V1, eps(1e-3)),
    Mistake("eps of the applications", SIGNS, eps(1.001e-5)),
    *(Mistake("variance as deviation", file, tensors=as_variance(torch.sqrt))
      for file in (CAFFE, SLIM_V1, KERAS_V1, TORCH)),
    *(Mistake("deviation as variance", file, tensors=as_variance(torch.square)) for file in (SLIM_V2, KERAS_V2, TIMM)),
    Mistake("scale factor not divided by", CAFFE, tensors=undivided),
    *(Mistake("RGB for BGR", file, rule={"channels": "RGB"}) for file in (ALEXNET, CAFFE, KERAS_V1)),
    *(Mistake("BGR for RGB", file, rule={"channels": "BGR"}) for file in (SLIM_V1, SLIM_V2, TORCH, SIGNS)),
    Mistake("mean in RGB order", ALEXNET, rule={"mean": (122.67892, 116.66877, 104.00699)}),
    *(Mistake("no mean", file, rule={"mean": (0.0, 0.0, 0.0)}) for file in (ALEXNET, CAFFE, KERAS_V1, SLIM_V1, TORCH)),
    *(Mistake("0 to 1 for counts", file, rule={"scale": 1 / 255}) for file in (ALEXNET, CAFFE, KERAS_V1, SLIM_V1)),
    Mistake("0 to 1 for -1 to 1", SLIM_V2, rule={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
    Mistake("counts for 0 to 1", SIGNS, rule={"scale": 1.0}),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The model of a framework's file, imported once and found to answer as the framework does."""
    found: dict[str, Bundle] = {}
    folder = tmp_path_factory.mktemp("models")

    def model(file: str) -> Bundle:
        if file not in found:
            to = folder / f"{len(found)}.safetensors"
            import_weights(written / file, to, model="alexnet.caffenet" if file == CAFFENET else "")
            assert apart((written / file).parent, to) < SAME
            found[file] = load_bundle(to)
        return found[file]

    return model


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: f"{one.file.partition('/')[0]}: {one.what}")
def test_a_planted_mistake_is_caught(
    mistake: Mistake, models: Callable[[str], Bundle], written: Path, to: Path
) -> None:
    right = models(mistake.file)
    spec = right.spec.replaced(mistake.fields(right.spec))
    rule = dataclasses.replace(right.preprocessing, **mistake.rule)
    tensors = right.tensors | mistake.tensors(right.tensors, right.spec)
    save_bundle(to, Bundle(spec, rule, right.labels, tensors))
    try:
        found = apart((written / mistake.file).parent, to)
    except ModelFileError as told:
        assert mistake.what == "groups left out"  # the shapes tell
        assert "conv2.conv.weight is" in str(told)
    else:
        assert found > SHOWS


# What pictures of one size do not show: how borders are padded, and which way half a window is rounded


def case_of(row: str, side: int) -> Any:
    return next(one for one in CASES if one.row == row and one.side == side and not one.training and not one.gradient)


@pytest.mark.parametrize("side", [64, 224, 225, 299])
@pytest.mark.parametrize("row", ["resnet_v1_50.slim", "resnet_v2_50.slim"])
def test_even_maps_tell_how_slim_pads(row: str, side: int) -> None:
    """Its convolution pads (3, 3) at every size, where SAME is (2, 3) at even ones; its pool is SAME, (0, 1) at even
    maps. Pictures of 225 pixels tell neither, those of 299 the pool alone: their map has 150 pixels."""
    case = case_of(row, side)
    spec = spec_of(case)
    assert not caught(case, built(case))
    assert caught(case, built(case, stem(padding="same")(spec))) == (side % 2 == 0)
    assert caught(case, built(case, stem(pool="symmetric")(spec))) == (-(-side // 2) % 2 == 0)


MEASURED = {"name", "num_classes", "in_channels", "input_size", "blocks", "convs", "hidden", "stem", "conv_bias",
            "open_bias", "source", "year", "paper"}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "row"),
    [(ALEXNET, "alexnet.caffe"), (CAFFENET, "alexnet.caffenet"), (ARRAYS, "alexnet.caffe"),
     (CAFFE, "resnet_v1_50.original"), (SLIM_V1, "resnet_v1_50.slim"), (SLIM_V2, "resnet_v2_50.slim"),
     (TORCH, "resnet_v1_50.torchvision"), (TIMM, "resnet_v2_50.timm"), (KERAS_V1, "resnet_v1_50.keras")],
)  # fmt: skip
def test_a_network_found_by_names_is_built_as_its_row(file: str, row: str, models: Callable[[str], Bundle]) -> None:
    """So that what is caught in the row, such as floor for ceil and SAME for symmetric, is caught in the import."""
    found, wanted = models(file).spec, find_spec(row)
    assert {key for key, value in vars(found).items() if value != getattr(wanted, key)} <= MEASURED
    if not isinstance(wanted, AlexNetSpec):
        assert (found.stem.pool, found.stem.padding) == (wanted.stem.pool, wanted.stem.padding)  # type: ignore[attr-defined]
        assert (found.stem.kernel, found.stem.stride) == (wanted.stem.kernel, wanted.stem.stride)  # type: ignore[attr-defined]


def test_caffe_rounds_pools_up(models: Callable[[str], Bundle]) -> None:
    """The files of 227 and 65 pixels do not show it: the pools' windows fit their maps exactly."""
    alexnet, resnet = models(ALEXNET).spec, models(CAFFE).spec
    assert alexnet.pool == Pool(3, 2, "ceil")  # type: ignore[attr-defined]
    assert resnet.stem.pool == "ceil"  # type: ignore[attr-defined]
    floored = resnet.replaced(stem(pool="valid")(resnet))
    assert [one.stem.size(224) for one in (resnet, floored)] == [56, 55]  # type: ignore[attr-defined]


def test_the_hand_signs_flattened_map_is_permuted(tmp_path: Path, to: Path) -> None:
    """A map of 2 x 2 pixels; that of the other fixture is a single one."""
    file = tmp_path / "signs.h5"
    file.write_bytes(gzip.decompress((TOPOLOGIES / "keras2_signs.h5.gz").read_bytes()))
    import_weights(file, to)
    right, wanted = load_bundle(to), expected("keras2_signs.h5", " frozen")
    assert relative(answers(right.network()), wanted) < SAME
    tensors = right.tensors | by_pixels("logits.weight")(right.tensors, right.spec)
    assert relative(answers(dataclasses.replace(right, tensors=tensors).network()), wanted) > SHOWS


# Groups, classes, counters, momentum


@pytest.mark.parametrize("group", ["", "group: 1"])
def test_groups_that_the_settings_leave_out_are_read_from_the_blob(
    written: Path, to: Path, tmp_path: Path, group: str
) -> None:
    import_weights(_rewritten(written, "alexnet_caffe", tmp_path / "g.caffemodel", "group: 2", group), to)
    assert apart(written / "alexnet_caffe", to) < SAME


def test_caffes_epsilon_is_that_of_the_file(written: Path, to: Path, tmp_path: Path) -> None:
    case = "caffe_resnet_50"
    import_weights(_rewritten(written, case, tmp_path / "same.caffemodel"), to)
    assert apart(written / case, to) < SAME
    import_weights(_rewritten(written, case, tmp_path / "e.caffemodel", "eps: 1e-5", "eps: 0.01"), to, overwrite=True)
    assert load_bundle(to).spec.norm.eps == 0.01  # type: ignore[attr-defined]
    assert apart(written / case, to) > SHOWS


@pytest.mark.parametrize(
    ("row", "file", "classes", "first"),
    [("resnet_v1_50.slim", "w.ckpt", 1000, "tench"), ("resnet_v2_50.slim", "w.ckpt", 1001, "background"),
     ("resnet_v2_50.timm", "w.pth", 1000, "tench")],
)  # fmt: skip
def test_1001_classes_begin_with_the_background(
    tmp_path: Path, to: Path, row: str, file: str, classes: int, first: str
) -> None:
    spec = tiny(row, num_classes=classes)
    rule = preset(spec.preprocessing, spec.input_size)
    bundle = Bundle(spec, rule, tuple(map(str, range(classes))), dict(filled(spec).state_dict()))
    save_bundle(tmp_path / "m.safetensors", bundle)
    export_weights(tmp_path / "m.safetensors", tmp_path / file)
    import_weights(tmp_path / file, to)
    labels = load_bundle(to).labels
    assert (len(labels), labels[0], labels[classes - 1]) == (classes, first, "toilet tissue")
    with pytest.raises(ModelFileError, match=f"{2001 - classes:,} labels for {classes:,} classes"):
        import_weights(tmp_path / file, to, overwrite=True, labels=[str(number) for number in range(2001 - classes)])


def test_batch_counters_come_and_go(written: Path, to: Path, tmp_path: Path) -> None:
    """torch before 0.4.1 had none; they are no weights, whatever they count."""
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    counters = [name for name in torch.load(file, weights_only=True) if name.endswith("num_batches_tracked")]
    assert counters
    shuffled(file, lambda state: {key: value for key, value in state.items() if key not in counters})
    found = import_weights(file, to, overwrite=True)
    assert (found.left, found.missing) == ((), ())
    assert apart(written / "torchvision_resnet_zip", to) < SAME
    shuffled(file, lambda state: state | {name: torch.tensor(7) for name in counters})
    import_weights(file, to, overwrite=True)
    assert apart(written / "torchvision_resnet_zip", to) < SAME
    assert load_bundle(to).tensors["stem.norm.num_batches_tracked"] == 7


@pytest.mark.parametrize(
    ("file", "momentum"), [(SLIM_V1, 0.003), (SLIM_V2, 0.003), (TORCH, 0.1), (KERAS_V1, 0.01), (SIGNS, 0.01)]
)
def test_a_decay_becomes_one_minus_itself(file: str, momentum: float, models: Callable[[str], Bundle]) -> None:
    norm = models(file).spec.norm  # type: ignore[attr-defined]
    assert isinstance(norm, Norm)
    assert norm.momentum == pytest.approx(momentum)
