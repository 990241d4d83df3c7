"""Networks that were a part of something when they were saved, and answers that an import must not keep to itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.interchange.imported import SAME, apart, without

from skipway.errors import ModelFileError, SkipwayError
from skipway.evaluation.judge import evaluate
from skipway.inference.classifier import load
from skipway.interchange.exporting import convert_weights
from skipway.interchange.importing import import_weights
from skipway.interchange.options import ImportOptions
from skipway.weights.bundle import load_bundle

CASE = "torchvision_resnet_zip"
State = dict[str, torch.Tensor]


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


@pytest.fixture
def state(written: Path) -> State:
    return dict(torch.load(written / CASE / "model.pth", weights_only=True))


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "net.", "encoder.", "anything.at.all.", "module.model."])
def test_a_prefix_of_all_names_goes(written: Path, to: Path, tmp_path: Path, prefix: str, state: State) -> None:
    torch.save({"state_dict": _prefixed(state, prefix)}, tmp_path / "wrapped.ckpt")
    found = import_weights(tmp_path / "wrapped.ckpt", to)
    assert (found.scheme, found.left) == ("torchvision", ())
    assert apart(written / CASE, to) < SAME


def test_a_prefix_of_safetensors_goes(written: Path, to: Path, tmp_path: Path, state: State) -> None:
    save_file(_prefixed(state, "model."), tmp_path / "wrapped.safetensors")
    import_weights(tmp_path / "wrapped.safetensors", to)
    assert apart(written / CASE, to) < SAME


def test_what_lies_beside_a_wrapped_network_is_not_passed_over(
    written: Path, to: Path, tmp_path: Path, state: State
) -> None:
    file = tmp_path / "wrapped.pth"
    torch.save(_prefixed(state, "model.") | {"loss.weight": torch.ones(7)}, file)
    with pytest.raises(ModelFileError, match=r"nobody takes 1 of its arrays \(loss\.weight\)"):
        import_weights(file, to)
    assert import_weights(file, to, ImportOptions(allow_unused=["loss.*"])).left == ("loss.weight",)
    assert apart(written / CASE, to) < SAME


def test_of_two_networks_one_must_be_left_out(written: Path, to: Path, tmp_path: Path, state: State) -> None:
    other = {name: value * 2 for name, value in state.items()}
    file = tmp_path / "two.pth"
    torch.save(_prefixed(state, "student.") | _prefixed(other, "teacher."), file)
    with pytest.raises(ModelFileError, match=r"holds 2 networks \(student\., teacher\.\); .*'teacher\.\*'"):
        import_weights(file, to)
    import_weights(file, to, ImportOptions(allow_unused=["teacher.*"]))
    assert apart(written / CASE, to) < SAME


def test_what_a_wrapped_network_lacks_is_named(to: Path, tmp_path: Path, state: State) -> None:
    torch.save(_prefixed(without(state, "layer2.0.bn2.running_var"), "model."), tmp_path / "wrapped.pth")
    with pytest.raises(ModelFileError, match=r"lacks 1 of its arrays \(layer2\.0\.bn2\.running_var\)"):
        import_weights(tmp_path / "wrapped.pth", to)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_classifier_behind_dropout_is_found(
    written: Path, to: Path, tmp_path: Path, prefix: str, state: State
) -> None:
    renamed = {name.replace("fc.", "fc.1."): value for name, value in state.items()}
    torch.save(_prefixed(renamed, prefix), tmp_path / "dropout.pth")
    import_weights(tmp_path / "dropout.pth", to)
    assert apart(written / CASE, to) < SAME


def test_a_classifier_of_two_layers_is_none_of_ours(to: Path, tmp_path: Path, state: State) -> None:
    deep = {name.replace("fc.", "fc.3."): value for name, value in state.items()} | {"fc.0.weight": torch.ones(3, 3)}
    torch.save(deep, tmp_path / "deep.pth")
    with pytest.raises(ModelFileError, match=r"nobody takes 3 of its arrays"):
        import_weights(tmp_path / "deep.pth", to)


def test_a_network_without_a_classifier_says_so(to: Path, tmp_path: Path, state: State) -> None:
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(headless, tmp_path / "headless.pth")
    found = import_weights(tmp_path / "headless.pth", to)
    assert any("no classifier" in one and "train DATA --from MODEL" in one for one in found.warnings)
    assert "labels    none" in found.describe()
    classifier = load(to, "cpu")
    with pytest.raises(SkipwayError, match=r"has no classifier.*train DATA --from MODEL"):
        classifier.best(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 5)
    with pytest.raises(SkipwayError, match="has no classifier"):
        evaluate(classifier, "digits")


def test_an_import_tells_what_it_decided(written: Path, to: Path, tmp_path: Path, state: State) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": state, "state_dict_ema": state, "optimizer": {"lr": 1.0}, "epoch": 7}, file)
    found = import_weights(file, to)
    told = found.describe()
    assert "prepared  as by torch: 224 pixels a side, RGB, counts times 0.003922, minus (0.485, " in told
    assert "labels    numbers from 0 to 6; --labels FILE names the classes" in told
    assert "note      the file holds averaged weights, too: --average ema takes them" in told
    assert "note      the file says: epoch 7" in told
    assert "note      not read: optimizer" in told
    values = found.to_dict()
    assert (values["preprocessing"]["convention"], values["preprocessing"]["size"]) == ("torch", 224)
    assert values["labels"].startswith("numbers")
    assert len(values["notes"]) == 3
    converted = convert_weights(file, tmp_path / "w.pth", ImportOptions(labels=list("abcdefg"), average="ema"))
    assert "labels    those of --labels" in converted.describe()
    assert converted.to_dict()["notes"][0].startswith("averaged weights, not the last ones")
    assert import_weights(written / CASE / "model.pth", to, overwrite=True).decisions.notes == ()


@pytest.mark.parametrize("case", ["slim_v1_saved_v1", "slim_v2_saved_v2"])
def test_moving_averages_of_a_checkpoint_are_told(written: Path, to: Path, case: str) -> None:
    found = import_weights(written / case / "model.ckpt", to)
    assert any("--average ema takes them" in one for one in found.decisions.notes)


def test_a_model_of_ours_needs_no_import(written: Path, to: Path, tmp_path: Path) -> None:
    import_weights(written / CASE / "model.pth", to)
    with pytest.raises(ModelFileError, match=r"is a skipway model already; `skipway export`"):
        import_weights(to, tmp_path / "again.safetensors")


def _save_torchscript(path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2)).save(str(path))  # type: ignore[no-untyped-call]


def _save_cut_zip(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "save", "told"),
    [
        ("script.pt", _save_torchscript, r"is a TorchScript program, whose code is not run; .*state_dict"),
        ("cut.keras", _save_cut_zip, r"damaged or incomplete archive.*; download or copy it again"),
    ],
)
def test_what_a_zip_is_instead(to: Path, tmp_path: Path, name: str, save: Callable[[Path], None], told: str) -> None:
    save(tmp_path / name)
    with pytest.raises(ModelFileError, match=told):
        import_weights(tmp_path / name, to)


def test_other_networks_are_told_what_there_is(to: Path, tmp_path: Path, state: State) -> None:
    grouped = state | {"layer1.0.conv2.weight": state["layer1.0.conv2.weight"][:, :1].contiguous()}
    for name, arrays in (("grouped", grouped), ("none", {"features.0.weight": torch.ones(3)})):
        torch.save(arrays, tmp_path / f"{name}.pth")
        with pytest.raises(ModelFileError, match=r"; skipway has AlexNet, .* and no others") as told:
            import_weights(tmp_path / f"{name}.pth", to)
        assert "--model" not in str(told.value)


def test_patterns_and_labels_that_cannot_be_meant_are_told(written: Path, to: Path) -> None:
    file = written / CASE / "model.pth"
    with pytest.raises(ModelFileError, match=r"no array of .* matches --allow-unused 'fcc\.\*'; they are called conv1"):
        import_weights(file, to, ImportOptions(allow_unused=["fcc.*"]))
    with pytest.raises(ModelFileError, match=r"name two classes 'a'; give each class a name of its own"):
        import_weights(file, to, ImportOptions(labels=list("abcdefa")))
    assert not to.exists()
    import_weights(file, to, ImportOptions(labels=list("abcdefg")))
    assert load_bundle(to).labels == tuple("abcdefg")
