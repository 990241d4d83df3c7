"""A graph answers as its network does, alone and in batches, and carries what a caller needs, or is not written."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.contracts.pins import SHOWN
from tests.contracts.tiny import CLASSES, filled, relative, tiny
from tests.interchange.test_exporting import bundle_of as random_bundle
from tests.interchange.test_exporting import narrow
from torch import Tensor

import skipway
from skipway.cli import main
from skipway.data.mean_image import MeanImage
from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import ModelFileError, RunError, SkipwayError, StorageError
from skipway.inference import graphs, onnx_file
from skipway.inference.graphs import export_graph
from skipway.interchange.exporting import export_weights
from skipway.interchange.options import ImportOptions
from skipway.models.catalog import list_models
from skipway.weights.bundle import Bundle, save_bundle
from skipway.workflows import convert_model, export_model

SAME = 1e-5
LABELS = tuple(f"Größe {number}" for number in range(CLASSES))
# The first row of each layout; deeper ones repeat its units.
LAYOUTS = list({re.sub(r"_\d+", "", name): name for name in reversed(list_models())}.values())


def bundle_of(name: str, **fields: object) -> Bundle:
    network = filled(tiny(name, **fields))
    spec = network.spec
    rule = preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1)
    return Bundle(spec, rule, LABELS[: spec.num_classes], network.state_dict())


def counts_of(bundle: Bundle, count: int) -> Tensor:
    rule = bundle.preprocessing
    counts = torch.randint(256, (count, rule.depth, rule.size, rule.size), dtype=torch.uint8)
    return counts.float() if rule.floating else counts


def answers(bundle: Bundle, counts: Tensor) -> Tensor:
    with torch.inference_mode():
        return bundle.network()(bundle.preprocessing.standardized(counts))


def run_onnx(file: Path, pictures: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pictures": pictures.numpy()})[0])


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    return [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", LAYOUTS)
def test_onnx_runtime_answers_as_the_network_does(name: str, tmp_path: Path) -> None:
    bundle, file = bundle_of(name), tmp_path / "graph.onnx"
    done = export_graph(bundle, file, with_preprocessing=True)
    assert 0 <= done.difference <= SAME
    for count in (1, 3):
        counts = counts_of(bundle, count)
        assert relative(run_onnx(file, counts), answers(bundle, counts)) <= SAME
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    operators = Counter(node.op_type for node in model.graph.node)
    assert "Dropout" not in operators
    for node in model.graph.node:
        assert not any(one.name == "training_mode" and one.i for one in node.attribute)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", SHOWN)
def test_a_program_of_torch_export_answers_as_the_network_does(name: str, inside: bool, tmp_path: Path) -> None:
    bundle, file = bundle_of(name), tmp_path / "graph.PT2"
    done = export_graph(bundle, file, with_preprocessing=inside)
    assert 0 <= done.difference <= SAME
    extra = {"labels": "", "preprocessing": "", "network": "", "skipway_version": ""}
    with file.open("rb") as opened:
        program = torch.export.load(opened, extra_files=extra)
    for count in (1, 3):
        counts = counts_of(bundle, count)
        found = program.module()(counts if inside else bundle.preprocessing.standardized(counts))
        assert relative(found, answers(bundle, counts)) <= SAME
    assert not [node for node in program.graph.nodes if "dropout" in str(node.target)]
    assert tuple(json.loads(extra["labels"])) == bundle.labels
    assert Preprocessing.from_dict(json.loads(extra["preprocessing"])) == bundle.preprocessing
    assert (extra["network"], extra["skipway_version"]) == (name, skipway.__version__)


def test_an_onnx_file_tells_what_a_caller_needs(tmp_path: Path) -> None:
    bundle, file = bundle_of("alexnet.caffe"), tmp_path / "graph.onnx"
    done = export_graph(bundle, file)
    model = onnx.load(file, load_external_data=False)
    told = {one.key: one.value for one in model.metadata_props}
    assert tuple(json.loads(told["labels"])) == LABELS
    assert Preprocessing.from_dict(json.loads(told["preprocessing"])) == bundle.preprocessing
    assert (told["network"], told["skipway_version"]) == ("alexnet.caffe", skipway.__version__)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", done.opset)]
    side = bundle.preprocessing.size
    assert [(one.name, shape_of(one)) for one in model.graph.input] == [("pictures", ["batch", 3, side, side])]
    assert [(one.name, shape_of(one)) for one in model.graph.output] == [("logits", ["batch", CLASSES])]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    counts = counts_of(bundle, 3)
    assert relative(run_onnx(file, bundle.preprocessing.standardized(counts)), answers(bundle, counts)) <= SAME


def test_the_bands_of_response_normalization_are_in_the_file(tmp_path: Path) -> None:
    export_graph(bundle_of("alexnet.caffe"), tmp_path / "graph.onnx")
    stored = {one.name for one in onnx.load(tmp_path / "graph.onnx").graph.initializer}
    assert {f"network.conv{number}.after.norm.band" for number in (1, 2)} <= stored


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_a_file_names_no_path_of_this_machine(ending: str, tmp_path: Path) -> None:
    export_graph(bundle_of("alexnet.caffe"), tmp_path / f"graph.{ending}")
    written = (tmp_path / f"graph.{ending}").read_bytes()
    assert b"LocalResponseNorm" in written
    assert b".py" not in written.replace(b".pytorch", b"")


def test_the_standardization_inside_is_the_models_own(tmp_path: Path) -> None:
    """Channel order, scale, mean and deviation, each other than the one that changes nothing."""
    rule = Preprocessing(33, channels="BGR", scale=0.5, mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0))
    given = bundle_of("resnet_v1_20.cifar")
    bundle = Bundle(given.spec, rule, given.labels, given.tensors)
    export_graph(bundle, tmp_path / "graph.onnx", with_preprocessing=True)
    counts = counts_of(bundle, 3)
    plane = counts.flip(1).numpy().astype(np.float32).transpose(0, 2, 3, 1)
    standardized = (plane * 0.5 - np.float32([10, 20, 30])) / np.float32([2, 3, 4])
    with torch.inference_mode():
        expected = bundle.network()(torch.from_numpy(standardized.transpose(0, 3, 1, 2).copy()))
    assert relative(run_onnx(tmp_path / "graph.onnx", counts), expected) <= SAME


def test_a_mean_image_goes_inside_or_nowhere(tmp_path: Path) -> None:
    given = bundle_of("resnet_v1_20.cifar")
    rule = Preprocessing(33, scale=1.0, mean_image=MeanImage(100 * torch.rand(3, 33, 33)))
    bundle = Bundle(given.spec, rule, given.labels, given.tensors)
    with pytest.raises(ModelFileError, match="--with-preprocessing"):
        export_graph(bundle, tmp_path / "graph.onnx")
    export_graph(bundle, tmp_path / "graph.onnx", with_preprocessing=True)
    counts = counts_of(bundle, 3)
    assert relative(run_onnx(tmp_path / "graph.onnx", counts), answers(bundle, counts)) <= SAME


def test_a_map_of_answers_is_exported(tmp_path: Path) -> None:
    done = export_graph(bundle_of("resnet_v2_20.cifar", global_pool=False), tmp_path / "graph.onnx")
    assert done.to_dict()["output"]["shape"] == ["batch", CLASSES, 9, 9]


def test_weights_too_large_for_one_file_stand_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    bundle, file = bundle_of("plain_20.cifar"), tmp_path / "deep" / "graph.onnx"
    done = export_graph(bundle, file, with_preprocessing=True)
    assert done.files == (file, tmp_path / "deep" / "graph.onnx.data")
    assert sorted(file.parent.iterdir()) == sorted(done.files)
    assert file.stat().st_size < done.files[1].stat().st_size
    counts = counts_of(bundle, 3)
    assert relative(run_onnx(file, counts), answers(bundle, counts)) <= SAME
    file.unlink()
    with pytest.raises(RunError, match=r"graph\.onnx\.data exists already"):
        export_graph(bundle, file)


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
@pytest.mark.parametrize("wrong", [2.0, float("nan")])
def test_a_graph_that_answers_otherwise_is_not_left_behind(
    ending: str, wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = graphs._WRITERS[ending]

    def spoiled(*arguments: object) -> onnx_file.Run:
        run = write(*arguments)
        return lambda pictures: run(pictures) * wrong

    monkeypatch.setitem(graphs._WRITERS, ending, spoiled)
    file = tmp_path / f"graph.{ending}"
    with pytest.raises(ModelFileError, match=r"differ from the network's by (1\.0e\+00|nan)"):
        export_graph(bundle_of("highway_mlp_10"), file)
    assert not list(tmp_path.iterdir())
    file.write_bytes(b"old")
    with pytest.raises(ModelFileError, match="nothing was written"):
        export_graph(bundle_of("highway_mlp_10"), file, overwrite=True)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(file.name, b"old")]


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_a_file_that_exists_is_kept(ending: str, tmp_path: Path) -> None:
    bundle, file = bundle_of("highway_mlp_10"), tmp_path / f"graph.{ending}"
    file.write_bytes(b"old")
    with pytest.raises(RunError, match="--overwrite"):
        export_graph(bundle, file)
    assert file.read_bytes() == b"old"
    export_graph(bundle, file, overwrite=True)
    assert file.stat().st_size > 1000


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="choose another folder"):
        export_graph(bundle_of("highway_mlp_10"), tmp_path / "file" / "graph.onnx")


@pytest.mark.parametrize("package", onnx_file.PACKAGES)
def test_a_package_that_is_missing_is_told(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SkipwayError, match="pip install onnx onnxscript onnxruntime") as refused:
        export_graph(bundle_of("highway_mlp_10"), tmp_path / "graph.onnx")
    assert f"needs {package}," in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_networks_without_logits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no classifier"):
        export_graph(bundle_of("plain_20.cifar", num_classes=0), tmp_path / "graph.onnx")
    bundle = bundle_of("highway_mlp_10")
    bundle.tensors["logits.bias"][0] = torch.nan
    with pytest.raises(ModelFileError, match="no numbers"):
        export_graph(bundle, tmp_path / "graph.onnx")
    assert not list(tmp_path.iterdir())


def test_options_of_the_other_kind_of_file_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_bundle(model, bundle_of("resnet_v1_20.cifar"))
    with pytest.raises(ModelFileError, match="leave out --form timm"):
        export_model(model, tmp_path / "graph.onnx", form="timm")
    with pytest.raises(ModelFileError, match="leave out --with-preprocessing"):
        export_model(model, tmp_path / "w.th", with_preprocessing=True)
    with pytest.raises(ModelFileError, match=r"call it graph\.onnx or graph\.pt2"):
        export_graph(bundle_of("highway_mlp_10"), tmp_path / "graph.tflite")


def test_one_step_from_a_weight_file_to_a_graph(tmp_path: Path) -> None:
    bundle = random_bundle(narrow("resnet_v1_20.cifar").replaced({"num_classes": 10}))
    save_bundle(tmp_path / "model.safetensors", bundle)
    export_weights(tmp_path / "model.safetensors", tmp_path / "w.th")
    # Drawn statistics cannot tell what names and shapes leave open.
    known = {"preprocessing": "cifar", "shortcut_pad": "both", "stem_stride": 1, "stem_pool": "none"}
    done = convert_model(tmp_path / "w.th", tmp_path / "graph.onnx", ImportOptions(**known), with_preprocessing=True)
    counts = counts_of(done.found.bundle, 3)
    assert relative(run_onnx(tmp_path / "graph.onnx", counts), answers(done.found.bundle, counts)) <= SAME
    assert done.to_dict()["form"] == "onnx"
    assert "ONNX Runtime answers as the network does" in done.describe()


def test_the_command_answers_with_one_json_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = bundle_of("resnet_v1_20.cifar")
    save_bundle(tmp_path / "model.safetensors", bundle)
    file = tmp_path / "graph.onnx"
    command = ["export", str(tmp_path / "model.safetensors"), "--to", str(file), "--with-preprocessing"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--json"])
    assert stop.value.code == 0
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert not err
    assert 0 < told.pop("difference") <= SAME
    assert told.pop("pictures").items() >= {"size": 33, "channels": "RGB", "inside": True}.items()
    assert told == {
        "model": "resnet_v1_20.cifar",
        "form": "onnx",
        "opset": onnx_file.OPSET,
        "input": {"name": "pictures", "type": "uint8", "shape": ["batch", 3, 33, 33]},
        "output": {"name": "logits", "type": "float32", "shape": ["batch", CLASSES]},
        "files": [str(file)],
    }
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert capfd.readouterr().err.startswith(f"error: {file} exists already")
