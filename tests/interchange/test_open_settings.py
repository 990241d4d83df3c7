"""What names and shapes leave open is asked of the file's statistics, settled by an option, or refused."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest
import torch
from tests.interchange.seen import model, seen, small, torch_file, untrained

from skipway.cli import main
from skipway.data.dataset import ArrayPictures, Split
from skipway.data.preprocessing import preset
from skipway.errors import ModelFileError, SkipwayError, UnknownNameError
from skipway.evaluation.feeding import feeding
from skipway.inference.classifier import load
from skipway.interchange.importing import import_weights
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras.topology import recognize
from skipway.interchange.mapping.layouts import to_source
from skipway.interchange.mapping.resnet_names import CIFAR_TORCH, LINEAR_DOWNSAMPLE, TORCH, TORCHVISION
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.preparation.natural_pictures import crops, natural_pictures
from skipway.models import create_model
from skipway.models.blocks import Pad, StackSpec, Stem
from skipway.models.layers import PoolPadding
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from skipway.weights.choices import SHORTCUT_PADS, STEM_POOLS

LAMBDA = Path(__file__).parent / "fixtures" / "keras_topology" / "keras2_v1_basic.h5.gz"
FOUR = (16, 24, 32, 40)


def written(tmp_path: Path, spec: StackSpec, tensors: dict[str, torch.Tensor], scheme: Scheme = TORCHVISION) -> Path:
    return torch_file(tmp_path / "net.pth", spec, tensors, scheme)


def stack(file: Path) -> ResNetV1Spec:
    spec = load_bundle(file).spec
    assert isinstance(spec, ResNetV1Spec)
    return spec


@pytest.mark.parametrize("scheme", TORCH, ids=lambda scheme: scheme.name)
def test_three_stages_of_16_channels_are_cifars_layout_under_any_wording(
    scheme: Scheme, tmp_path: Path, to: Path
) -> None:
    """A real one of 94 % answered at 17 %, with stride 2, a max pool and 224 pixels."""
    spec = small(shortcut="projection")
    tensors = untrained(spec)
    found = import_weights(written(tmp_path, spec, tensors, scheme), to)
    taken = stack(to)
    assert (taken.stem.stride, taken.stem.pool, taken.input_size) == (1, None, 32)
    assert found.scheme == scheme.name
    x = torch.randn(2, 3, 32, 32)
    own = spec.build().eval()
    own.load_state_dict(tensors)
    with torch.no_grad():
        assert torch.equal(load_bundle(to).network()(x), own(x))


def test_a_7x7_stem_is_imagenets_layout_under_any_wording(tmp_path: Path, to: Path) -> None:
    spec = small("resnet_v1_18.torchvision", widths=FOUR, stem=Stem(7, 2, 16))
    import_weights(written(tmp_path, spec, untrained(spec), LINEAR_DOWNSAMPLE), to)
    assert (stack(to).stem, stack(to).input_size) == (Stem(7, 2, 16), 224)


def test_four_stages_behind_a_3x3_are_refused_where_nothing_speaks(tmp_path: Path, to: Path) -> None:
    spec = small(widths=FOUR, shortcut="projection")
    file = written(tmp_path, spec, untrained(spec))
    with pytest.raises(
        ModelFileError, match=r"4 networks open \(stem of stride 1, no pool.*--stem-stride, --stem-pool"
    ):
        import_weights(file, to)
    assert not to.exists()


@pytest.mark.parametrize(("stride", "pool", "side"), [(1, None, 32), (2, None, 64), (2, "symmetric", 224)])
def test_the_statistics_never_take_another_stem(
    stride: int, pool: PoolPadding | None, side: int, tmp_path: Path, to: Path
) -> None:
    """Stride and size of picture change together, and hardly show: what is not clear is refused."""
    spec = small(widths=FOUR, shortcut="projection", stem=Stem(3, stride, 16, pool), input_size=side)
    file = written(tmp_path, spec, seen(spec, preset("cifar", side), seed=7))
    if pool:  # which shows
        import_weights(file, to)
        assert stack(to).stem == spec.stem
        return
    try:
        import_weights(file, to)
    except ModelFileError as error:
        assert "--stem-stride" in str(error)
        figures = r"0\.0\d+ \(stem [^()]*\) and 0\.\d+ \(stem [^()]*\)"
        assert re.search(rf"[234] of them fit its statistics about alike, the best {figures}; decide with", str(error))
        assert "fit none" not in str(error)
    else:
        assert stack(to).stem == spec.stem


@pytest.mark.parametrize(
    ("stride", "pool", "taken", "side"),
    [(1, "none", None, 32), (2, "none", None, 64), (2, "symmetric", "symmetric", 224)],
)
def test_options_decide_the_stem(
    stride: int, pool: str, taken: str | None, side: int, tmp_path: Path, to: Path
) -> None:
    spec = small(widths=FOUR, shortcut="projection")
    import_weights(written(tmp_path, spec, untrained(spec)), to, stem_stride=stride, stem_pool=pool)
    assert (stack(to).stem.stride, stack(to).stem.pool, stack(to).input_size) == (stride, taken, side)


@pytest.mark.parametrize(
    ("row", "stride", "side"), [("resnet_v1_18.torchvision", 2, 224), ("resnet_v1_20.cifar", 1, 32)]
)
def test_a_row_decides_the_stem(row: str, stride: int, side: int, tmp_path: Path, to: Path) -> None:
    spec = create_model(row, stem=Stem(3, 1, 16, None), num_classes=10).spec
    assert isinstance(spec, StackSpec)
    import_weights(written(tmp_path, spec, untrained(spec)), to, model=row)
    assert (stack(to).stem.stride, stack(to).input_size) == (stride, side)


@pytest.mark.parametrize("pad", ["after", "both", "before"])
def test_the_statistics_find_where_zeros_stand(pad: str, tmp_path: Path, to: Path) -> None:
    """Without a projection, `fc` and `linear` are all that names tell; the latter are akamaster's, of zeros on both
    sides, and the statistics overrule that."""
    bundle = model(small(pad=pad))
    for scheme in (TORCHVISION, CIFAR_TORCH):
        found = import_weights(written(tmp_path, bundle.spec, bundle.tensors, scheme), to, overwrite=True)
        assert stack(to).pad == pad
        assert "by its own statistics (zeros" in found.describe()
        assert "next network" in found.describe()
        fit = found.to_dict()["fit"]
        assert fit["figure"] < 0.05
        assert {one["network"] for one in fit["tried"]} == {"zeros on both sides", "zeros after", "zeros before"}
    told = [text for text in found.warnings if "names would tell otherwise" in text]
    assert bool(told) == (pad != "both")


def test_untouched_statistics_leave_two_networks_open(tmp_path: Path, to: Path) -> None:
    spec = small(pad="after")
    file = written(tmp_path, spec, untrained(spec))
    with pytest.raises(ModelFileError, match=r"zeros on both sides; zeros after.*say nothing.*--shortcut-pad"):
        import_weights(file, to)
    import_weights(file, to, shortcut_pad="after")
    assert stack(to).pad == "after"
    named = written(tmp_path, spec, untrained(spec), CIFAR_TORCH)
    import_weights(named, to, overwrite=True)
    assert stack(to).pad == "both"  # akamaster's, by its names


def test_statistics_of_no_picture_leave_two_networks_open(tmp_path: Path, to: Path) -> None:
    spec = small(pad="after")
    tensors = {name: torch.rand_like(tensor) + 0.1 if "running" in name else tensor
               for name, tensor in untrained(spec).items()}  # fmt: skip
    with pytest.raises(
        ModelFileError, match=r"its statistics fit none of them: .*--shortcut-pad after, both or before"
    ):
        import_weights(written(tmp_path, spec, tensors), to)


def with_lambda(file: Path, spec: StackSpec, tensors: dict[str, torch.Tensor]) -> Path:
    """A whole model of Keras 2 whose shortcuts are Lambda layers, with these tensors in place of its own."""
    file.write_bytes(gzip.decompress(LAMBDA.read_bytes()))
    found = recognize(keras_h5.read(file))
    assert found is not None
    arrays = {
        place.source: to_source(tensors[key].numpy(), place) for key, place in found.places.items() if place is not None
    }
    with h5py.File(file, "r+") as opened:

        def fill(path: str, member: Any) -> None:
            name = "/".join(path.removesuffix(":0").split("/")[-2:])
            if isinstance(member, h5py.Dataset) and name in arrays:
                member[...] = arrays.pop(name)

        opened["model_weights"].visititems(fill)
    assert not arrays
    return file


def test_a_lambda_that_nothing_tells_of_is_refused(tmp_path: Path, to: Path) -> None:
    """Its network is of drawn weights and statistics."""
    file = tmp_path / "model.h5"
    file.write_bytes(gzip.decompress(LAMBDA.read_bytes()))
    with pytest.raises(ModelFileError, match=r"zeros on both sides; zeros after; zeros before.*--shortcut-pad"):
        import_weights(file, to)
    import_weights(file, to, shortcut_pad="before")
    assert stack(to).pad == "before"


@pytest.mark.parametrize("pad", ["after", "both", "before"])
def test_the_statistics_find_where_a_lambda_puts_zeros(pad: str, tmp_path: Path, to: Path) -> None:
    """Two public ones of 91 %, whose Lambda appends the zeros, answered at 0 to 12 % with them on both sides."""
    file = tmp_path / "model.h5"
    file.write_bytes(gzip.decompress(LAMBDA.read_bytes()))
    import_weights(file, to, shortcut_pad=pad)
    spec = stack(to)
    tensors = seen(spec, preset("cifar", spec.input_size))
    found = import_weights(with_lambda(file, spec, tensors), to, overwrite=True)
    assert stack(to).pad == pad
    assert found.decisions.convention in {"cifar", "imagenet_statistics"}  # not 0 to 1, which would be assumed
    assert not [text for text in found.warnings if "assumed" in text]
    assert all(
        torch.equal(tensor, tensors[key]) for key, tensor in load_bundle(to).tensors.items() if "batches" not in key
    )


@pytest.mark.parametrize("options", [{"shortcut_pad": "both"}, {"stem_stride": 2}, {"stem_pool": "none"}])
def test_an_option_about_what_is_known_is_refused(options: dict[str, Any], tmp_path: Path, to: Path) -> None:
    spec = small("resnet_v1_18.torchvision", widths=FOUR, stem=Stem(7, 2, 16))
    with pytest.raises(ModelFileError, match="leave out --"):
        import_weights(written(tmp_path, spec, untrained(spec)), to, **options)


def test_the_help_lists_what_the_check_takes(tmp_path: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(STEM_POOLS) == sorted(["none", *get_args(PoolPadding)])
    assert sorted(SHORTCUT_PADS) == sorted(get_args(Pad))
    spec = small(widths=FOUR)
    file = written(tmp_path, spec, untrained(spec))
    with pytest.raises(UnknownNameError) as refused:
        import_weights(file, to, stem_pool="0")
    assert str(refused.value) == f"unknown pool of the stem '0'; the nearest: {', '.join(STEM_POOLS)}"
    with pytest.raises(UnknownNameError) as refused:
        import_weights(file, to, shortcut_pad="0")
    assert str(refused.value) == f"unknown place of the zeros '0'; the nearest: {', '.join(SHORTCUT_PADS)}"
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    helped = re.sub(r"[\s│|]+", " ", capsys.readouterr().out)
    assert f"names leave it open: {', '.join(STEM_POOLS)}." in helped
    assert f"shortcuts without weights: {', '.join(SHORTCUT_PADS)}." in helped


@pytest.mark.parametrize("convention", ["unit", "counts", "keras_tf"])
def test_the_statistics_find_how_pictures_were_scaled(convention: str, tmp_path: Path, to: Path) -> None:
    """The names would have them standardized."""
    bundle = model(small(shortcut="projection"), convention)
    file = written(tmp_path, bundle.spec, bundle.tensors)
    found = import_weights(file, to)
    assert load_bundle(to).preprocessing == bundle.preprocessing
    assert found.decisions.convention == convention
    wrong = import_weights(file, to, overwrite=True, preprocessing="cifar")
    assert [text for text in wrong.warnings if f"fit {convention} better" in text]
    assert load_bundle(to).preprocessing == preset("cifar", 32)  # the user's word counts
    every = import_weights(file, to, overwrite=True, fit=True)
    assert every.describe().count("tried     ") >= 8


def test_two_standardizations_are_told_to_be_alike(tmp_path: Path, to: Path) -> None:
    bundle = model(small(shortcut="projection"), "cifar")
    found = import_weights(written(tmp_path, bundle.spec, bundle.tensors), to)
    assert [text for text in found.warnings if "alike; --preprocessing imagenet_statistics takes that" in text]


def test_a_network_of_other_pictures_is_doubted(tmp_path: Path, to: Path) -> None:
    spec = small(shortcut="projection")
    tensors = {name: tensor + 3 if "running" in name else tensor for name, tensor in untrained(spec).items()}
    found = import_weights(written(tmp_path, spec, tensors), to)
    assert [text for text in found.warnings if "do not fit natural pictures" in text and "--pictures DIR" in text]


def test_a_pre_activation_network_under_torchs_names_is_told(tmp_path: Path, to: Path) -> None:
    spec = small(shortcut="projection")
    state = {name: tensor for name, tensor in untrained(spec).items() if not name.startswith("stem.norm")}
    places = TORCHVISION.places(spec)
    torch.save(
        {place.source: state[key] for key, place in places.items() if place and key in state}, tmp_path / "n.pth"
    )
    with pytest.raises(ModelFileError, match=r"pre-activation network \(ResNet v2\).*timm's resnetv2"):
        import_weights(tmp_path / "n.pth", to)


def test_one_output_is_two_classes_or_refused(tmp_path: Path, to: Path) -> None:
    """A softmax over one class was sure of every picture."""
    spec = small(shortcut="projection", num_classes=1)
    tensors = seen(spec, preset("cifar", 32))
    file = written(tmp_path, spec, tensors)
    with pytest.raises(ModelFileError, match=r"one output.*name both with --labels FILE"):
        import_weights(file, to)
    with pytest.raises(ModelFileError, match="one output"):
        import_weights(file, to, labels=["cat"])
    found = import_weights(file, to, labels=["cat", "dog"])
    assert [text for text in found.warnings if "logits 0 for 'cat' and x for 'dog'" in text]
    own = spec.build().eval()
    own.load_state_dict(tensors)
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        logits, output = load_bundle(to).network()(x), own(x)
    assert torch.equal(logits[:, 0], torch.zeros(5))
    assert torch.allclose(logits[:, 1:], output, rtol=1e-6)
    assert torch.allclose(logits.softmax(1)[:, 1:], output.sigmoid(), atol=1e-6)


def test_a_model_file_of_one_class_answers_nothing(to: Path) -> None:
    spec = small(shortcut="projection", num_classes=1)
    save_bundle(to, Bundle(spec, preset("cifar", 32), ("a",), untrained(spec)))
    with pytest.raises(SkipwayError, match="has one class, which every picture would get for certain; import"):
        load(to).predict([np.zeros((32, 32, 3), np.uint8)])


def split_of(bundle: Bundle) -> Split:
    cuts = crops(natural_pictures(), 40, 32, seed=3)
    pictures = np.stack([np.asarray(cut.resize((32, 32))) for cut in cuts])
    return Split(ArrayPictures(pictures, "crops"), np.zeros(len(cuts), np.int64))


def test_evaluate_tells_a_model_that_is_fed_otherwise(to: Path) -> None:
    bundle = model(small(shortcut="projection"), "unit")
    save_bundle(to, bundle)
    right = feeding(load(to), split_of(bundle))
    assert right is not None
    assert right.warnings() == []
    save_bundle(to, Bundle(bundle.spec, preset("cifar", 32), bundle.labels, bundle.tensors))
    wrong = feeding(load(to), split_of(bundle))
    assert wrong is not None
    assert wrong.better == "unit"
    assert "better as by unit" in wrong.warnings()[0]
    assert wrong.to_dict()["better_figure"] < wrong.figure / 2


def test_evaluate_says_when_statistics_fit_nothing(to: Path) -> None:
    spec = small(shortcut="projection")
    tensors = {name: tensor + 3 if "running" in name else tensor for name, tensor in untrained(spec).items()}
    bundle = Bundle(spec, preset("cifar", 32), tuple("abcdefghij"), tensors)
    save_bundle(to, bundle)
    found = feeding(load(to), split_of(bundle))
    assert found is not None
    assert "do not fit these pictures" in found.warnings()[0]
