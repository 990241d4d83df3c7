"""Engines: each answers as the network does, says what it cannot do, and keeps what it compiled in the user's cache."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.contracts.tiny import tiny
from tests.marks import slow_but
from torch import Tensor, nn

from skipway.errors import DataError, SkipwayError, UnknownNameError
from skipway.inference.engines import ENGINES, Cache, Engine, EngineError, choice, open_engine, pick_engine, table
from skipway.inference.engines.base import Precision
from skipway.inference.engines.folding import folded
from skipway.models.catalog import create_model, list_models
from skipway.models.joins import Carry
from skipway.models.network import Network

PAIRS = [(name, precision) for name, kind in table.KINDS.items() for precision in kind.precisions]
MIXED = ("alexnet.tflearn", "resnet_v2_50.slim", "highway_19.cifar")


def built(name: str) -> Network:
    torch.manual_seed(0)
    return tiny(name).build()


def stirred(network: Network) -> Network:
    """Statistics and scales as training leaves them, so that folding has something to do."""
    dice = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, span in (
                (module.running_mean, -0.5, 1), (module.running_var, 0.5, 1), (module.weight, 0.5, 1),
                (module.bias, -0.5, 1),
            ):  # fmt: skip
                values.data.copy_(low + span * torch.rand(values.shape, generator=dice))
    return network.eval()


def pictures(network: Network, count: int) -> Tensor:
    spec = network.spec
    dice = torch.Generator().manual_seed(2)
    return torch.randn(count, spec.in_channels, spec.input_size, spec.input_size, generator=dice)


def difference(network: Network, engine: nn.Module, inputs: Tensor) -> float:
    with torch.inference_mode():
        wanted, found = network(inputs), engine(inputs)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    return float((found - wanted).abs().max() / wanted.abs().max())


def kept_files(cache: Path) -> list[Path]:
    return [file for file in (cache / "engines").glob("*/*") if file.name != "manifest.json"]


@pytest.mark.parametrize("name", list_models())
def test_folding_changes_no_answer(name: str) -> None:
    network = stirred(built(name))
    short = folded(network)
    assert difference(network, short, pictures(network, 2)) < 1e-5
    left = [key for key, module in short.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert all("preact" in key or "postnorm" in key for key in left), left


@pytest.mark.parametrize(
    "fields",
    [
        {"shortcut": "projection_all"},
        {"shortcut": "projection_all", "projection": "bare"},
        *({"carry": carry, "shortcut": shortcut} for carry in get_args(Carry) for shortcut in ("pad", "projection")),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["resnet_v1_20.cifar", "resnet_v1_50.torchvision"])
def test_folding_knows_every_shortcut(name: str, fields: dict[str, Any]) -> None:
    network = stirred(tiny(name, **fields).build())
    short = folded(network)
    assert difference(network, short, pictures(network, 2)) < 1e-5
    assert not [key for key, module in short.named_modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("carry", ["exclusive_gate", "dropout"])
@pytest.mark.slow
def test_engines_know_odd_shortcuts(carry: str) -> None:
    network = stirred(tiny("resnet_v1_20.cifar", carry=carry, gate_bias=0.0).build())
    for engine in ("onnxruntime", "openvino"):
        opened = open_engine(engine, network, batch_size=2)
        assert difference(network, opened, pictures(network, 3)) < 1e-5


@pytest.mark.parametrize("activation", slow_but(["tanh", "sigmoid"], quick=["tanh"]))
def test_engines_know_what_follows_a_convolution(activation: str) -> None:
    network = tiny("alexnet.mnist", conv_activation=activation, activation=activation).build().eval()
    for engine in ("eager", "onnxruntime"):
        opened = open_engine(engine, network, batch_size=2)
        assert difference(network, opened, pictures(network, 3)) < 1e-5


@pytest.mark.parametrize(
    ("name", "engine", "precision"),
    # Compiling takes seconds: one network stands for all. That one's random weights let the signal fade to what int8
    # cannot tell from zero.
    slow_but(
        [
            (name, *pair)
            for name, pair in product(MIXED, PAIRS)
            if (pair[0] != "compile" or name == MIXED[0]) and (pair[1] != "int8" or name != MIXED[0])
        ],
        quick=[
            ("highway_19.cifar", "onnxruntime", "fp32"),
            ("highway_19.cifar", "openvino", "fp32"),
            ("highway_19.cifar", "eager", "fp32"),
            ("highway_19.cifar", "eager", "bf16"),
        ],
    ),
)
def test_every_engine_answers_as_the_network(name: str, engine: str, precision: Precision) -> None:
    network = stirred(built(name))
    samples = [pictures(network, 32)] if precision == "int8" else []
    try:
        opened = open_engine(engine, network, batch_size=2, precision=precision, calibration=samples)
    except EngineError as error:
        if "this CPU has no bf16 arithmetic" in str(error):
            pytest.skip(str(error))
        raise
    assert (opened.name, opened.precision) == (engine, precision)
    for count in (2, 1, 3):  # whole, too few, too many for one batch
        inputs = pictures(network, count)
        if precision == "int8":  # random weights have ranges that training would not leave them: only the direction
            with torch.inference_mode():
                assert torch.cosine_similarity(network(inputs), opened(inputs)).min() > 0.95
        else:
            assert difference(network, opened, inputs) < {"fp32": 1e-5, "bf16": 0.05}[precision]


def test_the_fastest_is_measured_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    network, told = stirred(built("resnet_v2_50.slim")), []
    seconds = {"eager": 0.3, "compile": 0.2, "onnxruntime": 0.1, "openvino": 0.4}
    monkeypatch.setattr(choice, "open_checked", lambda name, work: Engine(name, work.precision, work.network))
    monkeypatch.setattr(choice, "_seconds", lambda engine, work: seconds[engine.name])
    cache = Cache(network, kept=True)
    assert pick_engine(network, batch_size=2, cache=cache, tell=told.append).name == "onnxruntime"
    assert "onnxruntime it is" in told[-1]
    seconds["onnxruntime"] = 9.0  # not measured again
    again = Cache(network, kept=True)
    assert pick_engine(network, batch_size=2, cache=again).name == "onnxruntime"
    assert pick_engine(network, batch_size=4, cache=again).name == "compile"


@pytest.mark.parametrize(
    ("pictures_to_come", "opened"),
    [
        (100, {"eager"}),
        (1000, {"eager", "onnxruntime", "openvino"}),
        (10_000, {"eager", "compile", "onnxruntime", "openvino"}),
        (None, {"eager", "compile", "onnxruntime", "openvino"}),
    ],
)
def test_an_engine_is_built_where_it_earns_that_back(
    pictures_to_come: int | None, opened: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, seen = stirred(built("alexnet.tflearn")), set()

    def open_one(name: str, work: choice.Work) -> Engine:
        seen.add(name)
        return Engine(name, work.precision, work.network)

    monkeypatch.setattr(choice, "open_checked", open_one)
    monkeypatch.setattr(choice, "_seconds", lambda engine, work: 0.2)  # of two pictures
    pick_engine(network, batch_size=2, pictures=pictures_to_come)
    assert seen == opened


def test_few_pictures_build_nothing(user_cache: Path) -> None:
    network = stirred(built("alexnet.caffe"))
    assert pick_engine(network, batch_size=2, cache=Cache(network, kept=True), pictures=3).name == "eager"
    assert not kept_files(user_cache)


def test_an_engine_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(work: object) -> Engine:
        raise EngineError("no compiler; install one")

    network, told = stirred(built("alexnet.caffe")), []
    kinds = {"eager": table.KINDS["eager"], "compile": table.EngineKind(broken, ("fp32",), ("cpu",))}
    monkeypatch.setattr(table, "KINDS", kinds)
    assert pick_engine(network, batch_size=2, tell=told.append).name == "eager"
    assert any("no compiler" in line for line in told)


@pytest.mark.parametrize(
    "wrong", [lambda logits: logits + 1, lambda logits: logits * float("nan"), lambda logits: logits[:, :2]]
)
def test_an_engine_that_answers_differently_is_refused(
    wrong: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_wrong(work: table.Work) -> Engine:
        return Engine("eager", work.precision, lambda inputs: wrong(work.network(inputs)))

    monkeypatch.setitem(table.KINDS, "eager", table.EngineKind(open_wrong, ("fp32",), ("cpu",)))
    with pytest.raises(EngineError, match="differently"):
        open_engine("eager", stirred(built("alexnet.caffe")), batch_size=2)


def test_what_there_is_not_is_told() -> None:
    network = stirred(built("alexnet.caffe"))
    with pytest.raises(UnknownNameError, match="onnxruntime"):
        open_engine("onnx", network, batch_size=1)
    with pytest.raises(UnknownNameError, match="bf16"):
        open_engine("eager", network, batch_size=1, precision="fp64")  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"onnxruntime does not run bf16 on cpu; give --engine eager or compile"):
        open_engine("onnxruntime", network, batch_size=1, precision="bf16")


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        table.KINDS, "openvino", table.EngineKind(table.open_openvino, ("fp32",), ("cpu",), ("no_such_package",))
    )
    with pytest.raises(EngineError, match="needs no_such_package, which is not installed; give --engine eager"):
        open_engine("openvino", stirred(built("alexnet.caffe")), batch_size=1)


def test_int8_needs_pictures() -> None:
    network = stirred(built("alexnet.caffe"))
    with pytest.raises(SkipwayError, match="--calibrate"):
        open_engine("onnxruntime", network, batch_size=1, precision="int8")
    with pytest.raises(DataError, match="31 pictures are too few"):
        open_engine("onnxruntime", network, batch_size=1, precision="int8", calibration=[pictures(network, 31)])


@pytest.mark.slow
def test_int8_is_calibrated_once(user_cache: Path) -> None:
    network = stirred(built("resnet_v2_50.slim"))
    cache = Cache(network, kept=True)
    samples = [pictures(network, 40)]
    open_engine("onnxruntime", network, batch_size=1, precision="int8", cache=cache, calibration=samples)
    files = {file: file.stat().st_mtime_ns for file in kept_files(user_cache) if file.suffix == ".onnx"}
    assert len(files) == 2
    open_engine("openvino", network, batch_size=1, precision="int8", cache=cache)
    assert {file: file.stat().st_mtime_ns for file in files} == files


@pytest.mark.parametrize("damage", slow_but([b"", b"no graph", None], quick=[b"no graph"]))
def test_a_damaged_artefact_is_made_again(user_cache: Path, damage: bytes | None) -> None:
    network = stirred(built("resnet_v2_50.slim"))
    cache = Cache(network, kept=True)
    open_engine("onnxruntime", network, batch_size=1, cache=cache)
    (file,) = [file for file in kept_files(user_cache) if file.suffix == ".onnx"]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    engine = open_engine("onnxruntime", network, batch_size=1, cache=cache)
    assert difference(network, engine, pictures(network, 1)) < 1e-5
    assert len(file.read_bytes()) == len(whole)


def test_a_changed_model_has_an_entry_of_its_own() -> None:
    network = stirred(built("alexnet.caffe"))
    old = Cache(network, kept=True)
    with old.claimed():
        old.remember("key", "eager")
    next(network.parameters()).data[0] += 1
    new = Cache(network, kept=True)
    with new.claimed():
        assert new.remembered("key") is None
    with old.claimed():
        assert old.remembered("key") == "eager"


def test_an_odd_memory_is_none() -> None:
    cache = Cache(stirred(built("alexnet.caffe")), kept=True)
    with cache.claimed():
        for text in ("[]", "{", '{"other": 1}', '{"key": 1}', "[" * 100_000):
            cache.keep("choices.json", lambda to, text=text: to.write_text(text))
            assert cache.remembered("key") is None
        cache.remember("key", "eager")
        assert cache.remembered("key") == "eager"


def test_without_a_file_the_cache_ends_with_its_object(user_cache: Path) -> None:
    cache = Cache(stirred(built("alexnet.caffe")), kept=False)
    file = cache.keep("some", lambda to: to.write_text("text"))
    assert cache.file("some") == file
    del cache
    gc.collect()
    assert not file.exists()
    assert not user_cache.exists()


def test_batch_statistics_keep_batches_whole() -> None:
    network = stirred(create_model("resnet_v1_20.cifar", norm={"statistics": "batch"}))
    engine = open_engine("eager", network, batch_size=2)
    assert difference(network, engine, pictures(network, 5)) < 1e-6
    with pytest.raises(EngineError, match="cannot keep batches whole"):
        open_engine("onnxruntime", network, batch_size=2)


def test_names_are_those_of_the_table() -> None:
    assert ENGINES == ("eager", "compile", "onnxruntime", "openvino")


def test_compiling_tells_its_failures_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch's compiler warns on stderr of a GPU that nobody asked for."""
    log = logging.getLogger("torch.utils.cpp_extension")
    log.addHandler(handler := logging.StreamHandler(sys.stderr))

    def compiled(network: Network, **_: object) -> Callable[[Tensor], Tensor]:
        def program(inputs: Tensor) -> Tensor:
            log.warning("No CUDA runtime is found")
            log.error("out of registers")
            return network(inputs)

        return program

    monkeypatch.setattr(torch, "compile", compiled)
    network = built(MIXED[0])
    try:
        open_engine("compile", network, batch_size=2, cache=Cache(network, kept=True))
    finally:
        log.removeHandler(handler)
    assert capsys.readouterr().err.startswith("out of registers\n")
