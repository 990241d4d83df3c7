"""One update, compared with the same computed by hand."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skipway.data.loading import Batch
from skipway.errors import SkipwayError
from skipway.models.catalog import create_model
from skipway.models.network import Network
from skipway.training.averaging import Average
from skipway.training.choice import choose_model, preprocessing_for
from skipway.training.optimizer import build_optimizer
from skipway.training.recipe import Recipe
from skipway.training.schedule import learning_rate
from skipway.training.updater import Updater, compiles
from skipway.world.ranks import World

CPU = torch.device("cpu")


def _network() -> Network:
    # No batch normalization and no dropout: parts of a batch then see what the whole sees.
    return create_model("alexnet.mnist", input_size=8, hidden=(32,), dropout=0.0, initialization="he")


def _batch(count: int = 8) -> Batch:
    draw = np.random.default_rng(5)
    pixels = torch.from_numpy(draw.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8))
    return Batch(pixels, torch.from_numpy(draw.integers(0, 10, count)), torch.arange(count), 0, 0)


def _updater(network: Network, recipe: Recipe, class_weights: torch.Tensor | None = None) -> Updater:
    return Updater(
        network,
        recipe,
        preprocessing_for(network.spec),
        World(0, 1, CPU),
        seed=0,
        total_steps=10,
        frozen=[],
        class_weights=class_weights,
        colours=None,
    )


def test_an_update_is_the_textbook_one() -> None:
    network, batch = _network(), _batch()
    twin = copy.deepcopy(network)
    recipe = Recipe(optimizer="sgd", learning_rate=0.1, momentum=0.0, label_smoothing=0.1, weight_decay=0.01)
    updater = _updater(network, recipe)
    updater.train_mode()
    updater.update(batch, 0)
    loss = F.cross_entropy(twin(batch.pixels.float() / 255), batch.targets, label_smoothing=0.1)
    loss.backward()
    for name, parameter in twin.named_parameters():
        gradient = parameter.grad + (0.01 * parameter.detach() if parameter.ndim > 1 else 0)
        torch.testing.assert_close(network.get_parameter(name), parameter - 0.1 * gradient, rtol=1e-5, atol=1e-6)
    assert float(updater.loss_sum) == pytest.approx(float(loss.detach()) * 8, rel=1e-5)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulation_changes_nothing_but_memory(parts: int) -> None:
    whole, split = _network(), None
    split = copy.deepcopy(whole)
    for network, accumulation in ((whole, 1), (split, parts)):
        recipe = Recipe(optimizer="sgd", learning_rate=0.1, accumulation=accumulation)
        updater = _updater(network, recipe)
        updater.update(_batch(), 0)
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(split.get_parameter(name), parameter, rtol=1e-5, atol=1e-6)


def test_clipping_shortens_the_gradient() -> None:
    network = _network()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    recipe = Recipe(optimizer="sgd", learning_rate=1.0, momentum=0.0, clip_norm=0.01)
    _updater(network, recipe).update(_batch(), 0)
    moved = torch.stack([(a.detach() - b).norm() for a, b in zip(network.parameters(), before, strict=True)]).norm()
    assert float(moved) == pytest.approx(0.01, rel=1e-3)


def test_the_first_bad_step_is_remembered() -> None:
    network = _network()
    updater = _updater(network, Recipe(optimizer="sgd", learning_rate=0.1))
    updater.update(_batch(), 0)
    with torch.no_grad():
        network.get_parameter("logits.bias").fill_(float("nan"))
    updater.update(_batch(), 1)
    updater.update(_batch(), 2)
    assert int(updater.bad_step) == 2


def test_bf16_is_close_to_fp32() -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        updater = _updater(_network(), Recipe(optimizer="sgd", learning_rate=0.01, precision=precision))
        updater.update(_batch(), 0)
        losses[precision] = float(updater.loss_sum)
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.slow
def test_a_compiled_network_is_trained_alike() -> None:
    losses, weights = {}, {}
    for way in ("off", "on"):
        torch.manual_seed(0)
        updater = _updater(_network(), Recipe(optimizer="sgd", learning_rate=0.05, compile=way))
        updater.train_mode()
        for step in range(3):
            updater.update(_batch(8 if step < 2 else 6), step)  # the last batch is smaller
        losses[way] = float(updater.loss_sum)
        weights[way] = {name: value.clone() for name, value in updater.judged.state_dict().items()}
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-5)
    assert weights["on"].keys() == weights["off"].keys(), "a compiled network is saved as it was written"
    for name, value in weights["off"].items():
        torch.testing.assert_close(weights["on"][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("way", "device", "steps", "expected"),
    [
        ("auto", "cuda", 5000, True),
        ("auto", "cuda", 100, False),
        ("auto", "cpu", 5000, False),
        ("on", "cpu", 1, True),
        ("off", "cuda", 5000, False),
    ],
)
def test_when_a_run_compiles(way: str, device: str, steps: int, expected: bool) -> None:
    assert compiles(Recipe(compile=way), torch.device(device), steps) is expected


def test_without_a_compiler_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SkipwayError, match=r"C\+\+ compiler"):
        _updater(_network(), Recipe(compile="on"))


def test_average_follows_by_its_decay() -> None:
    network = _network()
    average = Average(network, 0.9)
    start = network.get_parameter("logits.weight").detach().clone()
    with torch.no_grad():
        network.get_parameter("logits.weight").add_(1.0)
    average.update(1000)
    torch.testing.assert_close(average.shadow.get_parameter("logits.weight"), start + 0.1)
    average.update(0)  # the first updates follow closely
    torch.testing.assert_close(average.shadow.get_parameter("logits.weight"), start + 0.1 + 0.9 * 0.9)


def test_weight_decay_spares_norms_and_biases() -> None:
    network = create_model("resnet_v1_20.cifar")
    groups = build_optimizer(network, Recipe(weight_decay=0.1), CPU).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(one.ndim > 1 for one in groups[0]["params"])
    assert all(one.ndim == 1 for one in groups[1]["params"])
    groups = build_optimizer(network, Recipe(weight_decay=0.1, decay_norm_and_bias=True), CPU).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1]


@pytest.mark.parametrize(
    ("recipe", "step", "expected"),
    [
        (Recipe(learning_rate=1.0, schedule="constant"), 50, 1.0),
        (Recipe(learning_rate=1.0, schedule="step", milestones=(0.5, 0.75)), 49, 1.0),
        (Recipe(learning_rate=1.0, schedule="step", milestones=(0.5, 0.75)), 50, 0.1),
        (Recipe(learning_rate=1.0, schedule="step", milestones=(0.5, 0.75)), 75, 0.01),
        (Recipe(learning_rate=1.0, schedule="cosine"), 0, 1.0),
        (Recipe(learning_rate=1.0, schedule="cosine"), 50, 0.5),
        (Recipe(learning_rate=1.0, schedule="cosine", final_share=0.1), 100, 0.1),
        (Recipe(learning_rate=1.0, schedule="cosine", warmup=0.1), 4, 0.5),
        (Recipe(learning_rate=1.0, schedule="cosine", warmup=0.1), 10, 1.0),
        (Recipe(learning_rate=1.0, schedule="one_cycle", rise=0.3), 0, 0.04),
        (Recipe(learning_rate=1.0, schedule="one_cycle", rise=0.3), 30, 1.0),
        (Recipe(learning_rate=1.0, schedule="one_cycle", rise=0.3), 65, 0.5),
        (Recipe(learning_rate=1.0, schedule="one_cycle", rise=0.3), 100, 0.0),
    ],
)
def test_schedules(recipe: Recipe, step: int, expected: float) -> None:
    assert learning_rate(recipe, step, 100) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("side", "count", "grey", "model"),
    [
        (28, 5000, True, "alexnet.mnist"),
        (32, 50_000, False, "resnet_v1_20.cifar"),
        (64, 1000, False, "resnet_v1_50.signs"),
        (300, 1000, False, "resnet_v1_18.torchvision"),
        (300, 100_000, False, "resnet_v2_50.slim"),
    ],
)
def test_choice_of_network(side: int, count: int, grey: bool, model: str) -> None:
    choice = choose_model(side, count, grey=grey)
    assert choice.model == model
    assert f"{count:,}" in choice.reason
    create_model(choice.model, **({"input_size": choice.image_size} if choice.image_size else {}))


_RANKS = """
import json, sys
import torch
torch.set_num_threads(1)
from skipway.training.recipe import read_recipe
from skipway.training.run import train
data, recipe, out = sys.argv[1:]
train(data, model="alexnet.mnist", recipe=recipe, image_size=8, val="test", out=out, device="cpu", workers=0)
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(arrays: Path, tmp_path: Path) -> None:
    from skipway.training.recipe import recipe_to_toml
    from skipway.weights.bundle import load_bundle

    recipe = Recipe(
        name="ranks", epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.01, dropout=0.0, initialization="he"
    )
    file = tmp_path / "ranks.toml"
    file.write_text(recipe_to_toml(recipe))
    script = tmp_path / "ranks.py"
    script.write_text(_RANKS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command, out in (([sys.executable], "one"), (torchrun, "two")):
        done = subprocess.run(
            [*command, str(script), str(arrays), str(file), str(tmp_path / out)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    one, two = (load_bundle(tmp_path / out / "model.safetensors") for out in ("one", "two"))
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    assert json.dumps(one.metrics["count"]) == json.dumps(two.metrics["count"])
    assert one.metrics["top1"] == two.metrics["top1"]
