"""What an import refuses, with the fix, and what it warns of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from tests.interchange.imported import SAME, apart, copied, shuffled, without

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.caffe.read import read as read_caffe
from skipway.interchange.importing import import_weights
from skipway.interchange.mapping.described_settings import settled
from skipway.interchange.options import ImportOptions
from skipway.interchange.report import Imported
from skipway.models.catalog import find_spec


def test_left_over_arrays_are_refused_and_listed_when_allowed(written: Path, to: Path, tmp_path: Path) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    shuffled(file, lambda state: state.update({"aux.weight": torch.ones(3), "aux.bias": torch.ones(3)}))
    with pytest.raises(ModelFileError, match=r"nobody takes 2 .* \(aux\.weight, aux\.bias\).*--allow-unused"):
        import_weights(file, to)
    assert not to.exists()
    with pytest.raises(ModelFileError, match=r"nobody takes 1 of its arrays \(aux\.bias\)"):
        import_weights(file, to, ImportOptions(allow_unused=["aux.w*"]), overwrite=True)
    found = import_weights(file, to, ImportOptions(allow_unused=["aux.*"]), overwrite=True)
    assert found.left == ("aux.weight", "aux.bias")
    assert "left      aux.weight" in found.describe()
    assert apart(written / "torchvision_resnet_zip", to) < SAME


def test_missing_arrays_are_named(written: Path, to: Path, tmp_path: Path) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    shuffled(file, lambda state: without(state, "layer2.0.bn2.running_mean"))
    with pytest.raises(ModelFileError, match=r"lacks 1 of its arrays \(layer2\.0\.bn2\.running_mean\)"):
        import_weights(file, to)


def test_a_wrong_shape_is_told(written: Path, to: Path, tmp_path: Path) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    shuffled(file, lambda state: state.update({"layer2.0.bn2.weight": torch.ones(9)}))
    with pytest.raises(ModelFileError, match=r"layer2\.0\.bn2\.weight has the shape \(9,\)"):
        import_weights(file, to)


@pytest.mark.parametrize("name", ["layer2.0.conv3.weight", "fc.weight", "layer1.1.conv1.weight"])
def test_as_many_numbers_in_another_order_are_refused(written: Path, to: Path, tmp_path: Path, name: str) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    shuffled(file, lambda state: state.update({name: state[name].transpose(0, 1).contiguous()}))
    with pytest.raises(ModelFileError, match=rf"({name}|layer\S+) has the shape"):
        import_weights(file, to)
    assert not to.exists()


def test_a_network_of_another_kind_is_one_clear_line(to: Path, tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    with torch.device("meta"):
        names = torchvision.models.vgg11().state_dict()
    torch.save({name: torch.zeros(1) for name in names}, file)
    with pytest.raises(ModelFileError, match=r"holds 22 arrays \(features\.0\.weight, .*but not a network") as told:
        import_weights(file, to)
    assert "\n" not in str(told.value)
    assert not to.exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"average": "mean"}, "average"),
        ({"model": "resnet_v1_51"}, "resnet_v1_50"),
        ({"preprocessing": "caff"}, "caffe"),
    ],
)
def test_unknown_names_are_told(written: Path, to: Path, options: dict[str, str], told: str) -> None:
    with pytest.raises(UnknownNameError, match=told):
        import_weights(written / "torchvision_resnet_zip" / "model.pth", to, ImportOptions(**options))


def test_live_normalization_is_told(written: Path, to: Path) -> None:
    """The hand-signs code calls its norms with training=True: its own answers are those of the batch."""
    found = import_weights(written / "keras2_signs_live" / "whole.h5", to)
    assert any("training=True" in one and "running statistics" in one for one in found.warnings)
    assert apart(written / "keras2_signs_live", to) > 0.01
    frozen = import_weights(written / "keras2_signs_frozen" / "whole.h5", to, overwrite=True)
    assert not any("training=True" in one for one in frozen.warnings)


@pytest.mark.parametrize(
    ("case", "file", "told"),
    [
        ("torchvision_resnet_zip", "model.pth", "but one set of weights"),
        ("torchvision_resnet_wrapped", "checkpoint.pth.tar", "but those of `state_dict`"),
        ("slim_v1_saved_v2", "model.ckpt", r"but one set of 97 arrays \("),
        ("slim_v1_frozen", "frozen.pb", r"but one set of 97 arrays \("),
        ("keras2_v1", "whole.h5", r"but one set of \d+ arrays \("),
        ("alexnet_caffe", "net.caffemodel", r"but one set of 16 arrays \(conv1/0, "),
        ("hugging_face_folder", "", r"but one set of \d+ arrays \("),
    ],
)
def test_averages_that_a_file_lacks_are_told(written: Path, to: Path, case: str, file: str, told: str) -> None:
    with pytest.raises(ModelFileError, match=rf"holds no averaged weights, {told}.*; leave out --average ema"):
        import_weights(written / case / file, to, ImportOptions(average="ema"))
    assert not to.exists()


def test_norms_folded_into_a_frozen_graph_are_told(written: Path, to: Path) -> None:
    with pytest.raises(ModelFileError, match=r"batch norms are folded into the convolutions .*; give the frozen graph"):
        import_weights(written / "slim_v1_frozen" / "folded.pb", to)


def test_untouched_statistics_are_told(written: Path, to: Path, tmp_path: Path) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    assert not _told_of(import_weights(file, to), "running means are 0")

    def untouched(state: dict[str, torch.Tensor]) -> None:
        for name, value in state.items():
            if "running" in name:
                value.fill_(float(name.endswith("var")))

    shuffled(file, untouched)
    assert _told_of(import_weights(file, to, overwrite=True), "all running means are 0 and all variances 1")


def test_one_answer_to_everything_is_told(written: Path, to: Path, tmp_path: Path) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    shuffled(file, lambda state: state["fc.bias"].copy_(torch.eye(7)[3] * 1e4) is None)
    assert _told_of(import_weights(file, to), "12 very different pictures are all '3': is --preprocessing right")
    shuffled(file, lambda state: state["fc.bias"].fill_(float("nan")) is None)
    assert _told_of(import_weights(file, to, overwrite=True), "not finite")


def _told_of(found: Imported, text: str) -> bool:
    return any(text in one for one in found.warnings)


def test_weights_alone_of_old_keras_are_doubted(written: Path, to: Path, tmp_path: Path) -> None:
    """res2a_branch2a and fc1000 without a description: Keras before 2.2.5, whose epsilon was the layer's own."""
    source = read_caffe(written / "caffe_resnet_50" / "net.caffemodel")
    assert source.arrays
    spec = find_spec("resnet_v1_50.keras")
    found, doubts = settled(spec, "keras_branches", source)
    assert found.norm.eps == 1e-3  # type: ignore[attr-defined]
    assert "before 2.2.5" in doubts[0].text
    assert settled(spec, "keras", source) == (spec, ())
