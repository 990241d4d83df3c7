"""Nothing leaves the machine, and nothing is written but where the user said: every command, watched from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skipway.data.preprocessing import preset
from skipway.models.catalog import create_model
from skipway.weights.bundle import Bundle, save_bundle
from tests.claims.conftest import pictures
from tests.privacy.watching import Room, Watched, network_less, watching_library


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(tmp_path_factory.mktemp("privacy"))


def require_silence(found: Watched, *, statuses: int | None = None) -> None:
    assert found.status == 0, found.text
    if statuses is not None:
        said = [line for line in found.text.splitlines() if line.startswith("STATUS")]
        assert len(said) == statuses, found.text
        assert all(line.startswith("STATUS 0 ") for line in said), found.text
    assert found.notes == []
    assert found.home == []


def save_small_resnet(file: Path) -> None:
    network = create_model("resnet_v1_20.cifar")
    rule = preset("torch", network.spec.input_size)
    labels = tuple(map(str, range(network.spec.num_classes)))
    save_bundle(file, Bundle(network.spec, rule, labels, dict(network.state_dict())))


def save_claim_pictures(folder: Path) -> None:
    """As many made-up pictures as the quick budget of a claim takes, so that it fetches none."""
    folder.mkdir(parents=True)
    for name, count, seed in (("train", 20_000, 1), ("test", 1_000, 2)):
        x, y = pictures(count, seed)
        np.savez(folder / f"{name}.npz", x=x, y=y)


@pytest.mark.parametrize(
    ("code", "noted"),
    [
        ("import socket; socket.create_connection(('127.0.0.1', 9), 1)", "socket.connect"),
        ("import socket; socket.getaddrinfo('example.invalid', 80)", "socket.getaddrinfo"),
        ("import urllib.request; urllib.request.urlopen('http://example.invalid')", "urllib.Request"),
        ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))", "sendto"),
        ("open('../elsewhere/file', 'w')", "open"),
        ("import os; os.mkdir('../elsewhere/folder')", "os.mkdir"),
        ("import os; os.symlink('target', '../elsewhere/link')", "os.symlink"),
        ("import os; os.rename('../elsewhere', '../elsewhere/inner')", "os.rename"),
        ("import os; os.rmdir('folder', dir_fd=os.open('../elsewhere', os.O_RDONLY))", "os.rmdir"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', 'open(\"/nowhere\", \"a\")'])", "open"),
    ],
)  # fmt: skip
def test_the_watch_sees_what_python_does(room: Room, code: str, noted: str) -> None:
    found = room.python("-c", code)
    assert any(noted in line for line in found.notes), found


def test_the_watch_sees_what_other_libraries_do(tmp_path: Path) -> None:
    if watching_library(tmp_path) is None:
        pytest.skip("no C compiler, or no Linux: only Python's own calls are watched")
    (tmp_path / "room").mkdir()
    room = Room(tmp_path / "room")
    code = (
        "import ctypes; ctypes.CDLL(None).getaddrinfo(b'example.invalid', None, None, ctypes.byref(ctypes.c_void_p()))"
    )
    found = room.python("-c", f"{code}\nimport os; open(os.path.expanduser('~/id'), 'w')")
    assert "libc getaddrinfo example.invalid" in found.notes
    assert found.home == ["id"]


@pytest.mark.slow
def test_every_command_is_silent(room: Room, colours: Path) -> None:
    """From training to use; the compiler, the demo and the claims take minutes and come below."""
    model, picture = "run/model.safetensors", str(colours / "red" / "0.png")
    save_small_resnet(room.work / "resnet.safetensors")
    commands = [
        ["--version"], ["models", "alexnet*"], ["summary", "alexnet.mnist"], ["recipes"], ["recipes", "quick"],
        ["draw", "alexnet.mnist", "--to", "drawn.svg"], ["reproduce", "--list"],
        ["train", str(colours), "--model", "alexnet.mnist", "--image-size", "28", "--epochs", "1", "--out", "run",
         "--workers", "1"],
        ["resume", "run"],
        ["evaluate", model, str(colours), "--workers", "0"],
        ["predict", model, picture],
        ["predict", model, picture, "--engine", "eager"],
        ["predict", model, picture, "--engine", "onnxruntime"],
        ["predict", model, picture, "--engine", "openvino"],
        ["benchmark", model, "--steps", "1", "--warmup", "0", "--engine", "eager", "--batch-size", "2"],
        ["export", "resnet.safetensors", "--to", "resnet.pth"],
        ["import", "resnet.pth", "--to", "imported.safetensors"],
        ["convert", "resnet.pth", "converted.pth"],
        ["pack", str(colours), "packed"],
        ["cache"],
        ["cache", "--clear", "--json"],
    ]  # fmt: skip
    require_silence(room.commands(*commands, wait_s=3), statuses=len(commands))


def test_commands_need_no_network() -> None:
    """What the children above ran in, where that is permitted."""
    if not network_less():
        pytest.skip("network namespaces are not permitted here: calls are watched, but the network is there")


@pytest.mark.slow
def test_slow_commands_are_silent(room: Room, colours: Path) -> None:
    model, folder = "mlp/model.safetensors", str(colours)
    recipe = room.work / "compiled.toml"
    recipe.write_text('name = "compiled"\ncompile = "on"\nepochs = 1\nbatch_size = 12\n')
    train = ["train", folder, "--model", "plain_mlp_10", "--image-size", "8", "--workers", "1"]
    save_claim_pictures(room.work / "pictures" / "cifar10")
    commands = [
        [*train, "--epochs", "3", "--out", "mlp"],
        ["export", model, "--to", "out.onnx"],
        ["export", model, "--to", "out.pt2"],
        ["predict", model, folder, "--engine", "compile"],
        ["evaluate", model, folder, "--engine", "onnxruntime", "--precision", "int8", "--calibrate", folder],
        [*train, "--recipe", str(recipe), "--out", "compiled"],
        ["benchmark", "plain_mlp_10", "--steps", "2", "--warmup", "1", "--batch-size", "2"],
        ["benchmark", "plain_mlp_10", "--mode", "train", "--steps", "2", "--warmup", "1", "--profile", "profiled"],
        ["reproduce", "relu-vs-tanh", "--data", "pictures", "--seeds", "1", "--epochs", "1"],
        ["demo"],
    ]
    require_silence(room.commands(*commands, wait_s=20), statuses=len(commands))
