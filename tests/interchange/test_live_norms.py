"""Whose statistics an imported network normalizes with: the file's, the batch's, or those of training pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.contracts.tiny import filled, pictures, relative, tiny
from tests.interchange.imported import SAME, apart, shuffled

from skipway import cli
from skipway.data.dataset import ArrayPictures, Source, Split
from skipway.data.preprocessing import preset
from skipway.errors import DataError, ModelFileError, UnknownNameError
from skipway.evaluation.judge import evaluate
from skipway.inference.classifier import load
from skipway.interchange.exporting import export_weights
from skipway.interchange.importing import import_weights
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.mapping.matching import Match
from skipway.interchange.mapping.norm_statistics import normalizing
from skipway.interchange.options import ImportOptions
from skipway.interchange.report import Imported
from skipway.interchange.source import Layer, WeightFile
from skipway.models import Norm
from skipway.models.blocks import StackSpec
from skipway.models.layers import BatchStatisticsNorm2d
from skipway.models.network import Spec
from skipway.training.statistics import recomputing
from skipway.weights.bundle import Bundle, load_bundle, save_bundle

LIVE = Path("keras2_signs_live") / "whole.h5"
SIDE, ACROSS = 32, 50  # CIFAR-10's pictures lie in mosaics of 50 x 50


def told(found: Imported, text: str) -> bool:
    return any(text in one for one in found.warnings)


def norm_of(spec: Spec) -> Norm:
    assert isinstance(spec, StackSpec)
    return spec.norm


# The choice


def test_left_alone_an_import_takes_the_running_statistics_and_names_both_ways_out(written: Path, to: Path) -> None:
    found = import_weights(written / LIVE, to)
    assert norm_of(load_bundle(to).spec).statistics == "running"
    assert apart(written / LIVE.parent, to) > 0.1
    assert told(found, "`import --norm batch`")
    assert told(found, "`import --statistics DATA`")
    chosen = import_weights(written / LIVE, to, ImportOptions(norm="running"), overwrite=True)
    assert not told(chosen, "--norm")
    assert apart(written / LIVE.parent, to) > 0.1
    assert not told(import_weights(written / "keras2_signs_frozen" / "whole.h5", to, overwrite=True), "--norm")


def test_the_batchs_statistics_give_keras_own_answers(written: Path, to: Path) -> None:
    """The fixture holds what Keras answers to the same batch: a stem with running statistics, as its code leaves it,
    and units with the batch's."""
    found = import_weights(written / LIVE, to, ImportOptions(norm="batch"))
    assert norm_of(load_bundle(to).spec).statistics == "batch_in_units"
    assert apart(written / LIVE.parent, to) < SAME
    assert told(found, "depends on the pictures beside it; --norm running")
    everywhere = load_bundle(to)
    spec = everywhere.spec.replaced({"norm": Norm(1e-3, 0.01, "batch")})
    save_bundle(to, Bundle(spec, everywhere.preprocessing, everywhere.labels, everywhere.tensors))
    assert apart(written / LIVE.parent, to) > 0.01


def test_a_network_without_batch_normalization_has_no_choice(written: Path, to: Path) -> None:
    with pytest.raises(ModelFileError, match="no batch normalization; leave out --norm batch"):
        import_weights(written / "alexnet_caffe" / "net.caffemodel", to, ImportOptions(norm="batch"))
    with pytest.raises(UnknownNameError, match="norm"):
        import_weights(written / LIVE, to, ImportOptions(norm="btach"))
    assert not to.exists()


def weights_with(live: set[str], spec: Spec, *, described: bool = True) -> tuple[Match, WeightFile]:
    """A file that calls these layers of a network with training=True."""
    places = {key.name: Place(key.name) for key in keys_of(spec)}
    layers = tuple(
        Layer(
            name, "BatchNormalization", arrays=(f"{name}.running_mean",), fields={"live": True} if name in live else {}
        )
        for name in sorted({key.name.rpartition(".")[0] for key in keys_of(spec) if key.kind == "norm"})
    )
    return Match(spec, "keras_graph", places, (), ()), WeightFile(
        "keras", Path("w.h5"), {}, layers if described else ()
    )


NORMS = {key.name.rpartition(".")[0] for key in keys_of(tiny("resnet_v1_50.signs")) if key.kind == "norm"}
IN_UNITS = {name for name in NORMS if name.startswith("stage")}


@pytest.mark.parametrize(
    ("live", "described", "statistics"),
    [(NORMS, True, "batch"), (IN_UNITS, True, "batch_in_units"), (set(), True, "batch_in_units"),
     (set(), False, "batch_in_units")],
    ids=["everywhere", "in units", "nowhere", "not described"],
)  # fmt: skip
def test_batch_means_where_the_files_code_does(live: set[str], described: bool, statistics: str) -> None:
    """The hand signs' own code leaves the stem alone; that is taken where their file tells nothing."""
    match, source = weights_with(live, tiny("resnet_v1_50.signs"), described=described)
    assert norm_of(normalizing(match, source, "batch")[0].spec).statistics == statistics
    left, doubts = normalizing(match, source, "")
    assert norm_of(left.spec).statistics == "running"
    assert bool(doubts) == (bool(live) or not described)


def test_a_network_of_others_without_a_word_is_live_everywhere() -> None:
    match, source = weights_with(set(), tiny("resnet_v2_50.slim"), described=False)
    assert norm_of(normalizing(match, source, "batch")[0].spec).statistics == "batch"
    assert normalizing(match, source, "")[1] == ()


@pytest.mark.parametrize("live", [{"stem.norm"}, IN_UNITS - {"stage1.unit1.norm1"}])
def test_a_mixture_that_no_network_has_is_refused(live: set[str]) -> None:
    match, source = weights_with(live, tiny("resnet_v1_50.signs"))
    with pytest.raises(ModelFileError, match=r"others do not, .*; take the running ones with --norm running"):
        normalizing(match, source, "batch")


# The layer, and the commands with it


def live_model(file: Path, statistics: str = "batch", name: str = "resnet_v1_20.cifar") -> Path:
    spec = tiny(name, norm=Norm(1e-5, 0.1, statistics))  # type: ignore[arg-type]
    rule = preset("unit", spec.input_size)
    save_bundle(file, Bundle(spec, rule, tuple("01234"), dict(filled(spec).state_dict())))
    return file


@pytest.mark.parametrize("name", ["resnet_v1_50.torchvision", "resnet_v2_50.slim", "plain_20.cifar"])
def test_live_norms_have_the_batchs_statistics_and_leave_the_running_ones(name: str) -> None:
    spec = tiny(name)
    x = pictures(spec, 4)
    live = filled(spec.replaced({"norm": Norm(norm_of(spec).eps, 0.1, "batch")}))
    before = {key: value.clone() for key, value in live.state_dict().items()}
    with torch.no_grad():
        answers = live(x)
        assert relative(answers, filled(spec).train()(x)) < 1e-6
        assert relative(answers, filled(spec)(x)) > 1e-2
        assert relative(answers[:2], live(x[:2])) > 1e-3
    assert all(torch.equal(value, before[key]) for key, value in live.state_dict().items())
    live.train()(x)
    assert any(not torch.equal(value, before[key]) for key, value in live.named_buffers())


def test_a_single_value_becomes_the_bias() -> None:
    norm = BatchStatisticsNorm2d(3).eval()
    torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        assert relative(norm(torch.randn(1, 3, 1, 1)).flatten(), norm.bias) < 1e-3


def test_commands_work_with_live_norms(tmp_path: Path) -> None:
    file = live_model(tmp_path / "m.safetensors")
    side = load_bundle(file).spec.input_size
    array = np.random.default_rng(0).integers(0, 256, (10, side, side, 3), dtype=np.uint8)
    array //= np.arange(1, 11, dtype=np.uint8)[:, None, None, None]
    classifier = load(file, "cpu")
    alone, beside = classifier.predict([array[0]]), classifier.predict(list(array))
    assert alone[0][0].probability != pytest.approx(beside[0][0].probability, rel=1e-3)
    np.savez(tmp_path / "data.npz", x=array, y=np.arange(10) % 5)
    found = evaluate(file, tmp_path / "data.npz", device="cpu").evaluation
    assert found.count == 10
    assert np.isfinite(found.loss)


def test_no_file_of_weights_says_so(tmp_path: Path) -> None:
    file = live_model(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"statistics of the batch .*; import it with --norm running"):
        export_weights(file, tmp_path / "w.pth")
    assert not (tmp_path / "w.pth").exists()


# Statistics recomputed


def mosaic(real_data: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first pictures of a part of CIFAR-10, uint8 (count, 32, 32, 3), and their classes."""
    whole = np.asarray(Image.open(real_data / "cifar10" / f"{split}-00.webp").convert("RGB"))
    tiles = whole.reshape(ACROSS, SIDE, ACROSS, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(-1, SIDE, SIDE, 3)
    with np.load(real_data / "cifar10" / "labels.npz") as labels:
        return tiles[:count], labels[split][:count]


def crippled(real_data: Path, file: Path) -> Path:
    """A public network whose statistics have stayed behind: a tenth of the way from where they began."""
    state = torch.load(real_data / "checkpoints" / "resnet20-12fca82f.th", map_location="cpu", weights_only=True)
    for name, value in state["state_dict"].items():
        if "running" in name:
            value.mul_(0.1).add_(0.9 * name.endswith("var"))
    torch.save(state, file)
    return file


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments), "--json"])
    assert not stop.value.code
    return json.loads(capsys.readouterr().out)


def test_recomputed_statistics_bring_a_network_back(
    real_data: Path, tmp_path: Path, to: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "cifar"
    data.mkdir()
    for split, count in (("train", 640), ("test", 1000)):
        x, y = mosaic(real_data, split, count)
        np.savez(data / f"{split}.npz", x=x, y=y)
    file = crippled(real_data, tmp_path / "slow.th")
    command(capsys, "import", file, "--to", to)
    behind = load_bundle(to)
    assert command(capsys, "evaluate", to, data)["top1"] < 0.5
    found = command(capsys, "import", file, "--to", to, "--overwrite", "--statistics", data)
    assert found["statistics"] == {"data": "cifar", "split": "train", "pictures": 640, "unreadable": 0}
    assert command(capsys, "evaluate", to, data)["top1"] > 0.88
    bundle = load_bundle(to)
    assert bundle.provenance["statistics"]["pictures"] == 640
    assert bundle.provenance["file"] == "slow.th"
    assert all(
        torch.equal(value, behind.tensors[key]) == ("running" not in key)
        for key, value in bundle.tensors.items()
        if not key.endswith("num_batches_tracked")
    )


def source_of(count: int, side: int, *splits: str) -> Source:
    array = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    split = Split(ArrayPictures(array, "made"), np.zeros(count, np.int64))
    return Source("made", ("a",), dict.fromkeys(splits, split))


def test_statistics_are_those_of_the_pictures(tmp_path: Path) -> None:
    """The stem's, of 64 pictures in one batch, by hand."""
    file = live_model(tmp_path / "m.safetensors", "running")
    bundle, source = load_bundle(file), source_of(64, 33, "all")
    done = recomputing(source, device="cpu")(bundle)
    array = source.splits["all"].pictures.array  # type: ignore[attr-defined]
    x = bundle.preprocessing.standardized(torch.from_numpy(array).permute(0, 3, 1, 2))
    with torch.no_grad():
        maps = bundle.network().get_submodule("stem.conv")(x)
    assert relative(done.tensors["stem.norm.running_mean"], maps.mean((0, 2, 3))) < 1e-4
    assert relative(done.tensors["stem.norm.running_var"], maps.var((0, 2, 3))) < 1e-4
    assert done.provenance["statistics"]["split"] == "all"


def test_untouched_statistics_are_no_doubt_once_they_are_recomputed(written: Path, to: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes((written / "torchvision_resnet_zip" / "model.pth").read_bytes())

    def untouched(state: dict[str, torch.Tensor]) -> None:
        for name, value in state.items():
            if "running" in name:
                value.fill_(float(name.endswith("var")))

    shuffled(file, untouched)
    assert told(import_weights(file, to), "were left out; `import --statistics DATA` recomputes them")
    found = import_weights(
        file, to, ImportOptions(recompute=recomputing(source_of(8, 64, "train"), device="cpu")), overwrite=True
    )
    assert not told(found, "running means are 0")
    assert "running statistics recomputed over 8 pictures (train of made)" in found.describe()


def test_statistics_that_cannot_be_recomputed(tmp_path: Path, to: Path) -> None:
    with pytest.raises(DataError, match="no training pictures, only val, test; give those of train"):
        recomputing(source_of(8, 33, "val", "test"))
    bundle = load_bundle(live_model(tmp_path / "m.safetensors"))
    with pytest.raises(ModelFileError, match="uses no running statistics"):
        recomputing(source_of(8, 33, "train"))(bundle)
    running = load_bundle(live_model(tmp_path / "r.safetensors", "running"))
    with pytest.raises(DataError, match="1 of its pictures can be read; give 2 or more"):
        recomputing(source_of(1, 33, "train"))(running)


def test_data_that_are_not_there_leave_nothing_behind(
    written: Path, to: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["import", str(written / LIVE), "--to", str(to), "--statistics", str(tmp_path / "none.npz")])
    assert stop.value.code == 2
    assert "none.npz" in capsys.readouterr().err
    assert not to.exists()
