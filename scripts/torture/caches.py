"""The cache of built engines: attacks that would run foreign code, and flipped bytes in what it keeps."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from scripts.torture.runs import ended, forked, progress

from skipway.models.network import Network

_PASSED = re.compile(r"(\d+) passed")
_FAILED = re.compile(r"(\d+) (?:failed|error)")


def cache_attacks(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:  # noqa: ARG001
    """The attacks of the tests, each of which once succeeded. Returns attacks, those that failed, and the rest."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "tests/test_cache_attacks.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not _PASSED.search(done.stdout):
        return 1, 0, [done.stdout[-300:] + done.stderr[-300:]]
    good = sum(int(number) for number in _PASSED.findall(done.stdout))
    bad = sum(int(number) for number in _FAILED.findall(done.stdout))
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return good + bad, good, lines


def cache_flips(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:
    """Flip a byte in the cache `count` times; the engine answers as before. Returns flips, good ones and the rest."""
    # Imported once, before the children fork; a session is opened in them alone.
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    from skipway.models.catalog import create_model

    cache = folder / "cache"
    os.environ["SKIPWAY_CACHE_DIR"] = str(cache)
    torch.manual_seed(0)
    network = create_model("resnet_v1_20.cifar").eval()
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    answers = folder / "answers.pt"
    if status := ended(forked(lambda: _answer(network, pictures, answers))):
        raise RuntimeError(f"an engine that nobody disturbed ended with {status}")
    wanted = torch.load(answers, weights_only=True)
    kept = Path(shutil.copytree(cache, folder / "kept"))
    good, failures = 0, []
    for number in range(count):
        shutil.rmtree(cache)
        shutil.copytree(kept, cache)
        file = draw.choice(sorted(file for file in cache.rglob("*") if file.is_file() and file.stat().st_size))
        data = bytearray(file.read_bytes())
        place = draw.randrange(len(data))
        data[place] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
        answers.unlink(missing_ok=True)
        said = folder / "said.txt"
        said.unlink(missing_ok=True)
        status = ended(forked(partial(_answer, network, pictures, answers), said))
        same = status == 0 and torch.equal(torch.load(answers, weights_only=True), wanted)
        good += same
        told = said.read_text()[-300:] if said.exists() else ""
        failures += [] if same else [f"{file.relative_to(cache)}, byte {place}: exit {status} {told}"]
        progress(f"cache flips: {number + 1} of {count}, {good} answered as before")
    del os.environ["SKIPWAY_CACHE_DIR"]
    return count, good, failures


def _answer(network: Network, pictures: torch.Tensor, to: Path) -> None:
    from skipway.inference.engines import Cache, open_engine

    cache = Cache(network, kept=True)
    with cache.claimed():
        engine = open_engine("onnxruntime", network, batch_size=4, cache=cache)
    torch.save(engine(pictures), to)
