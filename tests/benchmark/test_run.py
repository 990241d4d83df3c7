"""Whole measurements of tiny networks: operations, modes, model files, sweeps, what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from skipway.benchmark import memory, run, work
from skipway.benchmark.result import BenchmarkReport
from skipway.benchmark.run import BenchmarkSettings, benchmark
from skipway.benchmark.subject import find_subject, is_model_file
from skipway.benchmark.work import Workload, training_work
from skipway.drawing.summary import summarize
from skipway.errors import SkipwayError, SpecError, UnknownNameError
from skipway.models.catalog import create_model
from skipway.training.console import Silent
from skipway.training.recipe import Recipe
from skipway.training.recipes import find_recipe
from skipway.training.updater import Updater

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"batch_sizes": (2,), "engines": ("eager",), "steps": 2, "warmup": 1, "device": "cpu"}


def measured(model: str = "resnet_v1_20.cifar", **changes: Any) -> BenchmarkReport:
    return benchmark(BenchmarkSettings(model=model, **(SMALL | changes)))


@pytest.mark.parametrize("name", ["resnet_v1_20.cifar", "alexnet.mnist", "highway_mlp_10", "plain_20.cifar"])
def test_operations_are_those_of_the_summary(name: str) -> None:
    forward, training = measured(name).results[0], measured(name, mode="train").results[0]
    assert forward.flops == summarize(name).flops
    assert training.flops == 3 * forward.flops
    for one in (forward, training):
        assert one.gflops_per_second == pytest.approx(one.flops * 2 / one.timing.mean / 1e9)
        assert one.images_per_second == pytest.approx(2 / one.timing.mean)
        assert one.share_of_peak == pytest.approx(one.gflops_per_second / one.peak)


def test_operations_are_torch_s_own_count_at_another_size() -> None:
    network = create_model("resnet_v1_20.cifar", input_size=40).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 40, 40))
    result = measured(image_size=40).results[0]
    assert result.flops == counter.get_total_flops()
    assert result.image_size == 40


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_fields_of_json(mode: str) -> None:
    plain = json.loads(json.dumps(measured(mode=mode).to_dict(), allow_nan=False))
    assert {
        "name": "resnet_v1_20.cifar",
        "mode": mode,
        "engine": "eager",
        "precision": "fp32",
        "batch_size": 2,
        "image_size": 32,
        "warmup": 1,
        "steps": 2,
        "stopped": False,
    }.items() <= plain.items()
    assert set(plain["seconds_per_batch"]) == {"mean", "sd", "median", "p95"}
    assert 0 < plain["seconds_per_batch"]["median"] < 10
    assert set(plain["machine"]) == {"cpu", "gpu", "cores", "threads", "versions"}
    assert plain["machine"]["threads"] == torch.get_num_threads()
    assert plain["machine"]["versions"]["torch"] == torch.__version__
    assert plain["peak_gflops_per_second"] > 0
    assert plain["peak_memory_bytes"] is None or 0 <= plain["peak_memory_bytes"] < 2**31
    assert "profile" not in plain


def test_the_peak_is_measured_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    measure, step = run.Peak.measure, run.time_steps
    monkeypatch.setattr(run.Peak, "measure", lambda self: (order.append("peak"), measure(self)))
    monkeypatch.setattr(run, "time_steps", lambda *args, **named: (order.append("steps"), step(*args, **named))[1])
    measured(batch_sizes=(2, 3))
    assert order == ["peak", "steps", "peak"] * 2


def test_the_same_seed_gives_the_same_network_and_pictures() -> None:
    first, second, other = (find_subject("alexnet.mnist", seed=seed).build().state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["logits.weight"], other["logits.weight"])
    spec = find_subject("alexnet.mnist").spec
    pictures = work.random_pictures(spec, 2, 3)
    assert torch.equal(pictures, work.random_pictures(spec, 2, 3))
    assert not torch.equal(pictures, work.random_pictures(spec, 2, 4))
    assert pictures.shape == (2, 1, 28, 28)


def test_what_means_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_model_file("model.safetensors")
    assert is_model_file("runs/model")
    assert not is_model_file("resnet_v1_50.slim")
    (tmp_path / "mine").write_text("")
    assert is_model_file("mine")
    (tmp_path / "resnet_v1_50.slim").mkdir()
    assert not is_model_file("resnet_v1_50.slim")


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_a_model_file(trained: Path, mode: str) -> None:
    file = trained / "model.safetensors"
    result = measured(str(file), mode=mode).results[0]
    assert result.name == "resnet_v1_20.cifar"
    assert result.image_size == 16
    assert result.flops % summarize("resnet_v1_20.cifar", num_classes=3, image_size=16).flops == 0
    larger = measured(str(file), mode=mode, image_size=24).results[0]
    assert larger.flops > 2 * result.flops


def test_a_model_file_s_own_weights_are_measured(trained: Path) -> None:
    subject = find_subject(str(trained / "model.safetensors"))
    network = subject.build()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    made = training_work(
        subject, Recipe(learning_rate=0.1), precision="fp32", batch_size=4, device=CPU, seed=0, steps=2
    )
    made.step()
    after = subject.build().state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "training it does not spoil them"


def test_training_is_an_update_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Updater, Any, int]] = []
    update = Updater.update

    def watched(self: Updater, batch: Any, step: int) -> None:
        seen.append((self, batch, step))
        update(self, batch, step)

    monkeypatch.setattr(Updater, "update", watched)
    measured(mode="train", precisions=("bf16",), recipe="strong", batch_sizes=(4,))
    updaters = {id(one) for one, _, _ in seen}
    updater, batch, _ = seen[0]
    assert len(updaters) == 1
    assert [step for _, _, step in seen] == [0, 1, 2]
    assert updater.precision == torch.bfloat16
    assert updater.recipe == find_recipe("strong").replaced(precision="bf16", batch_size=4, compile="off")
    assert updater.network.training
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.shape == (4, 3, 32, 32)
    weights = find_subject("resnet_v1_20.cifar").build().state_dict()["stem.conv.weight"]
    assert not torch.equal(updater.network.state_dict()["stem.conv.weight"], weights)


def test_every_recipe_can_be_measured() -> None:
    """One lights the pictures along their principal colours, which only real pictures have."""
    lit = Recipe(augmentation=dataclasses.replace(Recipe().augmentation, lighting=0.1, mirror=0.5), accumulation=16)
    assert measured(mode="train", recipe=lit).results[0].timing.mean > 0


def test_a_sweep_goes_through_everything_and_leaves_out_what_cannot_be() -> None:
    lines: list[str] = []

    class Heard(Silent):
        def say(self, text: str) -> None:
            lines.append(text)

    settings = BenchmarkSettings(
        model="alexnet.mnist", **(SMALL | {"batch_sizes": (1, 3), "precisions": ("fp32", "int8")})
    )
    report = benchmark(settings, reporter=Heard())
    assert [(one.precision, one.batch_size) for one in report.results] == [("fp32", 1), ("fp32", 3)]
    assert sum("left out eager int8" in line for line in lines) == 2
    plain = report.to_dict()
    assert isinstance(plain, list)
    assert [one["batch_size"] for one in plain] == [1, 3]
    assert not report.stopped


def test_ctrl_c_ends_a_sweep_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = run.forward_work

    def stopping(subject: Any, *, batch_size: int, **named: Any) -> Workload:
        made = forward(subject, batch_size=batch_size, **named)
        calls = iter(range(9))

        def step() -> None:
            if batch_size == 3 and next(calls) == 2:
                raise KeyboardInterrupt
            made.step()

        return Workload(made.engine, step)

    monkeypatch.setattr(run, "forward_work", stopping)
    report = measured("alexnet.mnist", batch_sizes=(2, 3, 4))
    assert report.stopped
    assert [(one.batch_size, len(one.timing.seconds)) for one in report.results] == [(2, 2), (3, 1)]
    with pytest.raises(KeyboardInterrupt):
        measured("alexnet.mnist", batch_sizes=(3,), warmup=2)
    assert len(measured("alexnet.mnist", batch_sizes=(2, 3), warmup=2).results) == 1


@pytest.mark.parametrize("fits", [24, 3, 0])
def test_a_batch_too_large_names_what_fits(monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
    class Engine:
        name = "eager"

        def __call__(self, pictures: Tensor) -> None:
            if len(pictures) > fits:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(work, "open_engine", lambda *args, **named: Engine())
    with pytest.raises(SkipwayError) as caught:
        measured("alexnet.mnist", batch_sizes=(100,))
    told = str(caught.value)
    assert told.startswith("alexnet.mnist: 100 pictures at once do not fit into the memory")
    assert {24: "--batch-size 12", 3: "--batch-size 3", 0: "a smaller --image-size"}[fits] in told


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_a_batch_that_cannot_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The system would end the process without a word."""
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**30)
    with pytest.raises(SkipwayError, match=r"by halving, are [\d,]+: give --batch-size \d+$") as caught:
        measured(mode=mode, batch_sizes=(2**40,))
    largest = int(str(caught.value).rpartition(" ")[2])
    assert 8 <= largest <= 2**15


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **named: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(work, "open_engine", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measured("alexnet.mnist")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engines": ("quick",)}, "unknown engine 'quick'; there are auto, eager, "),
        ({"precisions": ("fp64",)}, "unknown precision 'fp64'; there are fp32, bf16, int8"),
        ({"precisions": ("int8",)}, "eager does not run int8"),
        ({"mode": "backward"}, "unknown mode 'backward'; there are forward, train"),
        ({"steps": 0}, "--steps is 0; give 1 or more"),
        ({"warmup": -1}, "--warmup is -1; give 0 or more"),
        ({"batch_sizes": (4, 0)}, "--batch-size is 0; give 1 or more"),
        ({"batch_sizes": ()}, "nothing to measure; give"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
        ({"seed": 2**64}, "--seed is 18446744073709551616; give "),
        ({"image_size": -1}, "--image-size is -1; give 0 or more"),
        ({"mode": "train", "engines": ("openvino",)}, "training has no engine openvino; give eager"),
        ({"mode": "train", "precisions": ("int8",)}, "training in int8 does not exist; give"),
        ({"mode": "train", "batch_sizes": (1,)}, "batch normalization trains on 2 pictures or more; raise"),
        ({"device": "tpu"}, "unknown device 'tpu'; give"),
        ({"recipe": "slow"}, "unknown recipe 'slow'; the nearest"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SkipwayError) as caught:
        measured(**changes)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_and_sizes_that_do_not_fit(trained: Path) -> None:
    with pytest.raises(SpecError, match=r"alexnet\.caffe cannot take pictures of 10 pixels a side; the smallest is"):
        measured("alexnet.caffe", image_size=10)
    with pytest.raises(UnknownNameError, match="unknown model 'resnet_v1_2'; the nearest"):
        measured("resnet_v1_2")
    with pytest.raises(SkipwayError, match=r"no model file gone\.safetensors; "):
        measured("gone.safetensors")
