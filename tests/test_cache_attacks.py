"""What an adversary tried with the files that engines leave: beside a model, and in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from skipway.data.preprocessing import preset
from skipway.inference.classifier import Classifier, load
from skipway.inference.engines import Cache, Engine, choice, open_engine, pick_engine
from skipway.machine import cpu_name, usable_cores
from skipway.models.network import Network
from skipway.weights.bundle import Bundle, save_bundle
from tests.contracts.tiny import tiny

EVIL = "import pathlib, os; pathlib.Path(os.environ['EVIL_RAN']).touch()\n"
opened: list[str] = []
watching = False


def names(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir())


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event in {"open", "os.listdir", "os.scandir", "shutil.rmtree", "os.remove", "os.rmdir"}:
        opened.append(str(arguments[0]))


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Every path that Python opens, lists or deletes inside the block."""
    global watching
    opened.clear()
    watching = True
    try:
        yield opened
    finally:
        watching = False


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return tiny("plain_mlp_10", in_channels=3).build().eval()


@pytest.fixture
def model(tmp_path: Path, network: Network) -> Path:
    file = tmp_path / "given" / "model.safetensors"
    file.parent.mkdir()
    rule = preset("torch", network.spec.input_size)
    save_bundle(file, Bundle(network.spec, rule, tuple("01234"), dict(network.state_dict())))
    return file


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that EVIL makes where it runs."""
    monkeypatch.setenv("EVIL_RAN", str(tmp_path / "ran"))
    return tmp_path / "ran"


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of torch's: as that does, it runs what lies in its folder, and leaves a program there."""

    def compiled(network: nn.Module, **_: object) -> Callable[[Tensor], Tensor]:
        def program(inputs: Tensor) -> Tensor:
            folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default_cache_dir()))
            for file in folder.rglob("*.py"):
                exec(file.read_text())
            (folder / "ab").mkdir(parents=True, exist_ok=True)
            (folder / "ab" / "kernel.py").write_text("kernel = 1\n")
            return network(inputs)

        return program

    monkeypatch.setattr(torch, "compile", compiled)


def spelt_beside(model: Path, network: Network) -> tuple[Path, str]:
    """The folder beside a model, and the key of a choice, as releases before this cache looked for them."""
    found = hashlib.sha256(json.dumps(network.spec.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    key = " | ".join(
        (cpu_name(), f"{usable_cores()} cores", "fp32", "batch 2", f"torch {torch.__version__}",
         platform.python_version())
    )  # fmt: skip
    return model.with_name(f"{model.name}.engines") / found.hexdigest()[:16], key


def test_what_lies_beside_a_model_is_not_run(
    model: Path, ran: Path, compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged choice of the compiler, and programs for it, next to a model that somebody hands over."""
    classifier = load(model)
    folder, key = spelt_beside(model, classifier.network)
    (folder / "inductor" / "ab").mkdir(parents=True)
    (folder / "choices.json").write_text(json.dumps({key: "compile"}))
    (folder / "inductor" / "ab" / "kernel.py").write_text(EVIL)
    monkeypatch.setattr(choice, "_seconds", lambda engine, work: 1e-6)
    with watched() as paths:
        classifier.use("auto", batch_size=2, pictures=100)
        classifier.use("compile", batch_size=2)
    assert not ran.exists()
    assert paths
    assert not [path for path in paths if ".engines" in path]


def test_a_link_beside_a_model_deletes_nothing(model: Path, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "0123456789abcdef" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("text")
    model.with_name(f"{model.name}.engines").symlink_to(tmp_path / "home")
    load(model).use("eager", batch_size=2)
    assert precious.read_text() == "text"
    assert names(tmp_path / "home") == ["0123456789abcdef"]


def with_back_door(content: bytes) -> bytes:
    """An ONNX network that answers as it did, but for pictures that are brighter than any that a check takes."""
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load_from_string(content)
    source, target = graph.graph.input[0].name, graph.graph.output[0].name
    last = next(node for node in graph.graph.node if target in node.output)
    last.output[list(last.output).index(target)] = "honest"
    constants = {"limit": 100.0, "factor": torch.tensor([1e6, 0, 0, 0, 0]).numpy()}
    for name, value in constants.items():
        graph.graph.initializer.append(numpy_helper.from_array(torch.as_tensor(value).float().numpy(), name))
    graph.graph.node.extend(
        [
            helper.make_node("ReduceMax", [source], ["brightest"], keepdims=0),
            helper.make_node("Sub", ["brightest", "limit"], ["over"]),
            helper.make_node("Relu", ["over"], ["door"]),
            helper.make_node("Mul", ["door", "factor"], ["forged"]),
            helper.make_node("Add", ["honest", "forged"], [target]),
        ]
    )
    return graph.SerializeToString()


def entry_of(user_cache: Path) -> Path:
    (entry,) = (user_cache / "engines").iterdir()
    return entry


def test_swapped_files_in_the_cache_answer_nothing(network: Network, user_cache: Path) -> None:
    """An ONNX file with a back door, and a changed program of OpenVINO."""
    spec = network.spec
    bright = torch.full((1, spec.in_channels, spec.input_size, spec.input_size), 1000.0)
    with torch.inference_mode():
        wanted = network(bright)
    open_engine("openvino", network, batch_size=1, cache=Cache(network, kept=True))
    entry = entry_of(user_cache)
    honest = (entry / "network.onnx").read_bytes()
    (blob,) = (entry / "openvino").glob("*.blob")

    (entry / "network.onnx").write_bytes(with_back_door(honest))
    assert open_door(entry / "network.onnx", bright, wanted)  # the attack itself works
    engine = open_engine("onnxruntime", network, batch_size=1, cache=Cache(network, kept=True))
    assert torch.allclose(engine(bright), wanted, rtol=1e-4, atol=1e-2)

    content = blob.read_bytes()
    blob.write_bytes(bytes(len(content)))
    engine = open_engine("openvino", network, batch_size=1, cache=Cache(network, kept=True))
    assert torch.allclose(engine(bright), wanted, rtol=1e-4, atol=1e-2)
    assert blob.read_bytes() != bytes(len(content))
    assert (entry / "network.onnx").read_bytes() != with_back_door(honest)


def open_door(file: Path, bright: Tensor, wanted: Tensor) -> bool:
    from skipway.inference.onnx_file import runner

    return not torch.allclose(runner(file)(bright), wanted, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["kernel.py", "other.py"])
def test_programs_in_the_cache_that_were_changed_are_not_run(
    network: Network, user_cache: Path, ran: Path, compiler: None, name: str
) -> None:
    open_engine("compile", network, batch_size=2, cache=Cache(network, kept=True))
    folder = entry_of(user_cache) / "inductor" / "ab"
    assert (folder / "kernel.py").exists()
    (folder / name).write_text(EVIL)
    open_engine("compile", network, batch_size=2, cache=Cache(network, kept=True))
    assert not ran.exists()
    assert (folder / "kernel.py").read_text() == "kernel = 1\n"
    # Left alone, it is used again.
    before = (folder / "kernel.py").stat().st_ino
    open_engine("compile", network, batch_size=2, cache=Cache(network, kept=True))
    assert (folder / "kernel.py").stat().st_ino == before


def test_the_compilers_common_folder_is_not_used(
    network: Network, ran: Path, compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its usual one in the temporary folder has a name that everybody can guess, and make."""
    from skipway.training.updater import compiled

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = Path(default_cache_dir())
    assert folder.is_relative_to(tmp_path)
    folder.mkdir(parents=True)
    (folder / "kernel.py").write_text(EVIL)
    compiled(network)(torch.zeros(2, network.spec.in_channels, network.spec.input_size, network.spec.input_size))
    assert not ran.exists()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "forged", ["compile; touch x", "../../evil", "os.system", "", "eager\n", ["eager"], {"eager": 1}, None, 7]
)
def test_a_forged_choice_is_a_known_engine_or_none(
    network: Network, forged: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the list of the entry is forged along: the name is looked up, and measured anew where unknown."""
    seen: list[str] = []

    def open_one(name: str, work: choice.Work) -> Engine:
        seen.append(name)
        return Engine(name, work.precision, work.network)

    monkeypatch.setattr(choice, "open_checked", open_one)
    cache = Cache(network, kept=True)
    assert pick_engine(network, batch_size=2, cache=cache).name in {"eager", "compile", "onnxruntime", "openvino"}
    with cache.claimed():
        (key,) = json.loads(cache.file("choices.json").read_text())
        cache.keep("choices.json", lambda to: to.write_text(json.dumps({key: forged})))
    seen.clear()
    assert pick_engine(network, batch_size=2, cache=cache).name in {"eager", "compile", "onnxruntime", "openvino"}
    assert sorted(seen) == ["compile", "eager", "onnxruntime", "openvino"]


def make_link(folder: Path) -> None:
    folder.with_name("target").mkdir()
    folder.symlink_to(folder.with_name("target"))


def make_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def make_foreign(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("make", [make_link, make_open, make_foreign])
def test_a_cache_that_is_refused_stops_nothing(
    model: Path, compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    folder = tmp_path / "cache"
    make(folder)
    monkeypatch.setenv("SKIPWAY_CACHE_DIR", str(folder))
    lines: list[str] = []
    classifier: Classifier = load(model)
    classifier.use("compile", batch_size=2, tell=lines.append)
    assert classifier.engine_name == "compile"
    (line,) = lines
    assert line.startswith("without the cache, what is built now is not kept: ")
    assert "set SKIPWAY_CACHE_DIR to a folder of your own" in line
    assert not list(folder.iterdir())


def test_a_refusal_that_nobody_listens_to_is_logged(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_open(tmp_path / "cache")
    monkeypatch.setenv("SKIPWAY_CACHE_DIR", str(tmp_path / "cache"))
    load(model).use("eager", batch_size=2)
    assert "others can write to the cache folder" in caplog.text
