"""Training speed of the hand-signs ResNet50: skipway's own loop against Keras 3 on TensorFlow, on this machine's CPU.

Each round runs one measured stretch of each side, in separate processes, one after the other, in alternating order:
64x64 pictures, 6 classes, batches of 32, Adam, categorical cross-entropy, float32. skipway decodes the picture files as
it goes, Keras has them in an array. `make peers` builds the environment of Keras; then

    .venv/bin/python benchmarks/signs_vs_keras.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).resolve().parent / "peers"
SIDES = ("skipway", "keras")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class BenchmarkError(Exception):
    """Something on this machine that keeps the comparison from running; the message is one line and names the fix."""


def main() -> int:
    """Run the rounds and print the table; the exit code."""
    options = parsed()
    try:
        check(options)
        rounds = [one_round(number, options) for number in range(options.rounds)]
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    result = summary(rounds, options)
    print(json.dumps(result, indent=2) if options.json else table(result))
    return 0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    data = Path(os.environ.get("SKIPWAY_TEST_DATA", ROOT.parent / "shared" / "data")) / "signs"
    parser.add_argument("--data", type=Path, default=data, help="folder whose train part has the six class folders")
    parser.add_argument("--keras-python", type=Path, default=ROOT / ".venv-keras/bin/python", help="Keras's Python")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of one stretch a side")
    parser.add_argument("--steps", type=positive, default=40, help="measured steps of a stretch")
    parser.add_argument("--warmup", type=positive, default=5, help="steps before them")
    parser.add_argument("--threads", type=positive, default=0, help="threads of each side (default: all cores)")
    parser.add_argument("--keras-jit", action="store_true", help="let Keras compile with XLA; on a CPU it does not")
    parser.add_argument("--json", action="store_true", help="answer with one JSON value on stdout")
    return parser.parse_args()


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def check(options: argparse.Namespace) -> None:
    """Everything that can be known to be missing before the first round. Raises BenchmarkError."""
    train = options.data / "train"
    if not train.is_dir():
        raise BenchmarkError(f"{train} is absent; give --data, a folder of the hand signs with a train part")
    if shutil.which(options.keras_python) is None:
        raise BenchmarkError(f"no Keras environment: {options.keras_python} is absent; `make peers` builds it")
    require(options.keras_python, ("tensorflow", "keras", "PIL"), "`make peers` builds the Keras environment")
    require(Path(sys.executable), ("skipway", "torch"), "run this with .venv/bin/python, which `make test` builds")
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 4:
        tell(f"warning: the machine is busy (load {load:.1f} on {cores} cores); the figures will suffer")


def require(python: Path, modules: tuple[str, ...], fix: str) -> None:
    """BenchmarkError when an interpreter lacks a module."""
    code = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if not importlib.util.find_spec(n)))"
    try:
        done = subprocess.run([python, "-c", code, *modules], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchmarkError(f"{python} does not run ({type(error).__name__}); {fix}") from None
    if done.stdout.strip():
        raise BenchmarkError(f"{python} lacks {', '.join(done.stdout.split())}; {fix}")


def one_round(number: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides once, each alone on the machine; the first of the two changes from round to round."""
    rows = {}
    for side in SIDES if number % 2 == 0 else reversed(SIDES):
        tell(f"round {number + 1} of {options.rounds}: {side}")
        rows[side] = measured(side, options)
        tell(f"    {rows[side]['pictures_per_second']:.1f} pictures/s")
    for fact in ("train_pictures", "trainable_parameters", "batch_size", "steps"):
        if rows["skipway"][fact] != rows["keras"][fact]:
            raise BenchmarkError(f"the sides differ in {fact}: {rows['skipway'][fact]} and {rows['keras'][fact]}")
    return rows


def measured(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """The JSON line of one side's process. Raises BenchmarkError."""
    shared = ["--data", options.data, "--warmup", str(options.warmup), "--steps", str(options.steps)]
    with tempfile.TemporaryDirectory(prefix="signs_vs_keras-") as scratch:
        if side == "skipway":
            command = [sys.executable, PEERS / "skipway_signs.py", *shared, "--out", Path(scratch) / "run"]
        else:
            command = [options.keras_python, PEERS / "keras_signs.py", *shared, "--threads", str(options.threads)]
            command += ["--jit"] if options.keras_jit else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(options.threads), check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode == 2:  # it has said why, in one line
        raise SystemExit(2)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise BenchmarkError(f"the {side} process ended with {done.returncode}; its own message is above")
    row: dict[str, Any] = json.loads(lines[-1])
    return row


def environment(threads: int) -> dict[str, str]:
    """Variables for a side: all cores unless told otherwise, whatever this shell has set."""
    kept = {name: value for name, value in os.environ.items() if name not in _THREAD_VARIABLES}
    return kept | ({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {})


def summary(rounds: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """All figures of the comparison."""
    ratios = [one["skipway"]["pictures_per_second"] / one["keras"]["pictures_per_second"] for one in rounds]
    speeds = {side: median(one[side]["pictures_per_second"] for one in rounds) for side in SIDES}
    return {
        "ratio": {"median": median(ratios), "min": min(ratios), "max": max(ratios), "n": len(ratios)},
        "pictures_per_second": speeds,
        "rounds": [one | {"ratio": ratio} for one, ratio in zip(rounds, ratios, strict=True)],
        "steps": options.steps,
        "warmup": options.warmup,
        "keras_jit": options.keras_jit,
        "machine": {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()},
    }


def cpu_name() -> str:
    """The processor's name."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    rounds, ratio, speeds = result["rounds"], result["ratio"], result["pictures_per_second"]
    facts = {side: rounds[0][side] for side in SIDES}
    lines = ["training, pictures/s", f"{'round':<8}{'skipway':>10}{'keras':>10}{'ratio':>10}"]
    for number, one in enumerate(rounds, 1):
        ours, theirs = (one[side]["pictures_per_second"] for side in SIDES)
        lines.append(f"{number:<8}{ours:>10.1f}{theirs:>10.1f}{one['ratio']:>10.3f}")
    lines.append(f"{'median':<8}{speeds['skipway']:>10.1f}{speeds['keras']:>10.1f}{ratio['median']:>10.3f}")
    lines += [
        "",
        f"ratio skipway / keras: median {ratio['median']:.3f} (min {ratio['min']:.3f}, max {ratio['max']:.3f}), "
        f"n = {ratio['n']} rounds",
        f"a round: {result['steps']} steps of {facts['keras']['batch_size']} pictures a side, after "
        f"{result['warmup']} to warm up; {facts['keras']['train_pictures']} pictures, "
        f"{facts['keras']['trainable_parameters']:,} trainable parameters, float32",
        f"machine: {result['machine']['cpu']}, {result['machine']['cores']} cores, {result['machine']['system']}",
    ]
    for side, row in facts.items():
        versions = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
        jit = ", XLA" if side == "keras" and result["keras_jit"] else ""
        lines.append(
            f"{side}: {versions}{jit}; threads {row['threads']}, decoding processes {row['decoding_processes']}"
        )
    return "\n".join(lines)


def tell(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
