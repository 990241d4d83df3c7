"""What the comparisons share: their options, the interpreters of the peers, and weights in everybody's own format."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interleaved import MAKE, BenchmarkError, Contestant, Entered, Race, largest_difference, require_same
from standing import Ratio, footer, machine, standing, table

from skipway.machine import usable_cores

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SKIPWAY_TEST_DATA", ROOT.parent / "shared" / "data"))
OWN = Path(sys.executable)
# The packages that prove an environment complete.
MODULES = {
    "own": ("skipway", "torch", "torchvision", "onnxruntime", "openvino"),
    "tensorflow": ("tensorflow", "tf_keras", "tf_slim", "cv2"),
    "keras": ("keras", "tensorflow", "jax", "torch"),
    "timm": ("timm", "torch"),
}
_TOLERANCE = 1e-3  # of the largest logit, over 152 layers in another order of sums; int8 is not compared


@dataclass(frozen=True)
class Line:
    """One race of a comparison: who takes part, in whose environments, and whose speeds are divided.

    `contestants` gets the folder for its files, and enters them. `compared` names those whose answers must agree;
    `same` those whose networks have equally many parameters.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    enter: Callable[[Race, Path], None]
    ratios: tuple[Ratio, ...]
    same: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    threads: int = 0


def options(description: str, *, turn_seconds: float = 2.0) -> argparse.ArgumentParser:
    """The options of every comparison."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=positive, default=5, help="rounds in which each contestant has one turn")
    parser.add_argument("--turn-seconds", type=float, default=turn_seconds, help="length of a turn, one batch or more")
    parser.add_argument("--only", default="", help="lines to run, by name, with commas between them")
    parser.add_argument("--json", action="store_true", help="answer with one JSON value on stdout")
    for name in ("tensorflow", "keras", "timm"):
        python = ROOT / ".venv-parity" / name / "bin/python"
        parser.add_argument(f"--{name}", type=Path, default=python, help=f"the Python of the environment of {name}")
    return parser


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def compare(chosen: argparse.Namespace, lines: Callable[[argparse.Namespace], Iterable[Line]]) -> int:
    """Run the lines, print their tables; the exit code. A line that cannot be run stops no other."""
    where = machine()
    results: list[dict[str, Any]] = []
    code = 0
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # or contestants and files would stay behind
    try:
        for line in _selected(chosen, lines):
            try:
                results.append(_raced(line, chosen))
            except BenchmarkError as error:
                code = _refused(error)
                continue
            if not chosen.json:
                print(table(results[-1]), end="\n\n", flush=True)
    except BenchmarkError as error:
        return _refused(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    finally:
        signal.signal(signal.SIGTERM, before)
    if results:
        print(json.dumps({"machine": where, "lines": results}, indent=2) if chosen.json else footer(results, where))
    return code


def _refused(error: BenchmarkError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _selected(chosen: argparse.Namespace, lines: Callable[[argparse.Namespace], Iterable[Line]]) -> list[Line]:
    """The lines that were asked for, once all that they need is there. Raises BenchmarkError."""
    found = list(lines(chosen))
    wanted = [name for name in chosen.only.split(",") if name]
    for name in wanted:
        if name not in {line.name for line in found}:
            raise BenchmarkError(f"no line {name}; there are {', '.join(line.name for line in found)}")
    found = [line for line in found if not wanted or line.name in wanted]
    for need in sorted({need for line in found for need in line.needs}):
        require(OWN if need == "own" else getattr(chosen, need), MODULES[need])
    load, cores = os.getloadavg()[0], usable_cores()
    if load > cores / 4:
        print(f"warning: the machine is busy (load {load:.1f} on {cores} cores); figures will suffer", file=sys.stderr)
    return found


def require(python: Path, modules: Sequence[str]) -> None:
    """BenchmarkError when an interpreter is absent or lacks a module."""
    code = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if not importlib.util.find_spec(n)))"
    try:
        done = subprocess.run([python, "-c", code, *modules], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise BenchmarkError(f"{python} is absent or does not run; {MAKE}") from None
    if done.stdout.strip():
        raise BenchmarkError(f"{python} lacks {', '.join(done.stdout.split())}; {MAKE}")


def _raced(line: Line, chosen: argparse.Namespace) -> dict[str, Any]:
    print(line.title, file=sys.stderr, flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="skipway-compare-") as folder,
        Race(threads=line.threads or usable_cores(), turn_seconds=chosen.turn_seconds) as race,
    ):
        line.enter(race, Path(folder))
        require_same(_named(race, line.same), "parameters")
        difference, whose = largest_difference(_named(race, line.compared))
        if not difference <= _TOLERANCE:
            raise BenchmarkError(f"{whose} answers otherwise, by {difference:.1e}; compare the same weights")
        race.run(chosen.rounds)
        result = standing(line.title, race.entered, line.ratios, race.restless)
    return result | ({"difference": difference} if line.compared else {})


def _named(race: Race, names: Sequence[str]) -> list[Entered]:
    return [race.entered[name] for name in names if name in race.entered]


def ours(name: str, script: str, settings: dict[str, Any]) -> Contestant:
    """A contestant in this environment."""
    return Contestant(name, script, OWN, settings, amount=settings.get("batch_size", 1))


def model_file(name: str, folder: Path) -> Path:
    """A model file of that network, with weights drawn from a fixed seed."""
    import torch

    from skipway.benchmark.subject import find_subject
    from skipway.weights.bundle import Bundle, save_bundle

    file = folder / f"{name}.safetensors"
    if not file.exists():
        subject = find_subject(name)
        with torch.no_grad():
            tensors = subject.build().state_dict()
        labels = tuple(f"class {number}" for number in range(subject.spec.num_classes))
        save_bundle(file, Bundle(subject.spec, subject.preprocessing, labels, tensors))
    return file


def weights_file(name: str, folder: Path, ending: str, form: str = "") -> Path:
    """The same weights as another framework's file."""
    from skipway.interchange.exporting import export_weights

    to = folder / f"{name}{ending}"
    export_weights(model_file(name, folder), to, form=form, overwrite=True)
    return to


def onnx_by_hand(name: str, folder: Path, batch_size: int) -> Path:
    """The same network as torch.onnx.export writes it when it is told nothing but an example."""
    import torch

    from skipway.inference.tracing import quiet
    from skipway.weights.bundle import load_bundle

    file = folder / f"{name}-{batch_size}.onnx"
    network = load_bundle(model_file(name, folder)).network()
    side = network.spec.input_size
    with quiet():
        torch.onnx.export(network, (torch.zeros(batch_size, 3, side, side),), str(file), verbose=False)
    return file


def facts_of(name: str) -> tuple[int, float]:
    """Side of a network's pictures in pixels, and GFLOP of a forward pass of one."""
    from skipway.drawing.counting import count
    from skipway.models.catalog import find_spec

    spec = find_spec(name)
    return spec.input_size, count(spec).flops / 1e9
