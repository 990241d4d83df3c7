"""Hostile model files by mutation: small valid ones of every family, with numbers, keys, shapes and places changed.

`python -m tests.hostile_headers --seed 1 --count 500` tries so many in this process, `--fresh 20` so many more in a
process each, and prints `n of n`. A file must be refused in one line that names a fix, within 2 seconds and 4 times its
size + 200 MB of memory, or give finite answers.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import math
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skipway.weights.model_header import seal_of

SECONDS = 2.0
ALLOWANCE = 200 << 20
_HEAVY = 1 << 28  # bytes or operations of one answer, from which on it is not waited for

EXTREMES: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 4, 7, 255, 4095, 4096, 4097, 16_384, 10**6, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63,
    -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1e-300, 5e-324, 1e-38, 1e38, 1e308, -1e308, math.nan, math.inf,
    -math.inf, True, False, None, "", "1", "same", "pool", "x" * 5000, "\u202e\n\x1b[2J", [], [0], [[]], [1, 2, 3], {},
    {"a": 1}, [1e308, 1e308, 1e308], [1e-300] * 3,
)  # fmt: skip


@dataclass
class Model:
    """A model file taken apart: the skipway entry, the tensors' entries and the bytes behind them."""

    entry: dict[str, Any]
    tensors: dict[str, dict[str, Any]]
    data: bytearray

    def encoded(self, text: str | None = None) -> bytes:
        """The file, with `text` in place of the skipway entry."""
        entry = json.dumps(self.entry) if text is None else text
        header = json.dumps({"__metadata__": {"skipway": entry}, **self.tensors}).encode()
        return struct.pack("<Q", len(header)) + header + bytes(self.data)

    def signed(self) -> None:
        """Put the right digest and seal in, as whoever writes such a file would."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            begin, end = self.tensors[name]["data_offsets"]
            digest.update(name.encode() + self.data[begin:end])
        self.entry["digest"] = digest.hexdigest()
        self.entry["seal"] = seal_of(self.entry)


def families() -> dict[str, Model]:
    """A small valid model file of each family."""
    import torch

    from skipway.models.alexnet import AlexNetSpec, Conv
    from skipway.models.blocks import Stem, stage
    from skipway.models.catalog import find_spec
    from skipway.models.highway import HighwaySpec, HighwayStage
    from skipway.models.network import Spec
    from skipway.models.plain import PlainSpec
    from skipway.models.resnet_v1 import ResNetV1Spec
    from skipway.models.resnet_v2 import ResNetV2Spec
    from skipway.training.choice import preprocessing_for
    from skipway.weights.bundle import Bundle, save_bundle

    norm = ("norm", "pool")
    small = {"num_classes": 3, "input_size": 20}
    stages = (stage("stage1", "basic", 4, 1, stride=1), stage("stage2", "basic", 6, 2, stride=2))
    narrow = (stage("stage1", "bottleneck", 2, 2, stride=2),)
    specs: tuple[Spec, ...] = (
        AlexNetSpec(name="a", convs=(Conv(8, 3, after=norm), Conv(6, 3, groups=2, after=norm)), hidden=(5,), **small),
        AlexNetSpec(name="w", convs=(Conv(1000, 1, after=("norm",)),), hidden=(), average_to=1, **small),
        HighwaySpec(name="h", stages=(HighwayStage(4, (3,)), HighwayStage(6, (3, 1))), last_width=5, **small),
        find_spec("highway_mlp_3").replaced({"input_size": 8, "width": 4, "num_classes": 3}),
        PlainSpec(name="p", blocks=stages, stem=Stem(3, 1, 4, None), **small),
        ResNetV1Spec(name="v1", blocks=stages, stem=Stem(3, 1, 4), **small),
        ResNetV2Spec(name="v2", blocks=narrow, stem=Stem(3, 2, 4, "same"), **small),
    )
    made: dict[str, Model] = {}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for spec in specs:
            labels = tuple(f"class {i}" for i in range(spec.num_classes))
            file = Path(folder) / "m.safetensors"
            save_bundle(file, Bundle(spec, preprocessing_for(spec), labels, dict(spec.build().state_dict())))
            made[spec.name] = taken_apart(file.read_bytes())
    return made


def taken_apart(data: bytes) -> Model:
    """The inverse of `Model.encoded`."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    entry = json.loads(header.pop("__metadata__")["skipway"])
    return Model(entry, header, bytearray(data[8 + length :]))


def mutations(seed: int) -> Iterator[tuple[str, bytes]]:
    """Without end: what was changed in which family, and the file."""
    known = families()
    draw = random.Random(seed)
    while True:
        family = draw.choice(list(known))
        model = copy.deepcopy(known[family])
        steps = [draw.choice(_STEPS) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        told = [step(model, draw) for step in steps]
        if draw.random() < 0.9:
            _sign(model)
        last, text = draw.random(), None
        if last < 0.06:
            what, text = _broken_text(json.dumps(model.entry), draw)
            told.append(what)
        data = model.encoded(text)
        if last > 0.95:
            what, data = _broken_bytes(data, draw)
            told.append(what)
        yield f"{family}: {'; '.join(told)}", data


def _sign(model: Model) -> None:
    with contextlib.suppress(TypeError, ValueError, KeyError, IndexError, OverflowError):  # places that are none
        model.signed()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of everything in nested tables and lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def _owner(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def _some_path(model: Model, draw: random.Random) -> tuple[Any, ...]:
    part = draw.choice(("spec", "spec", "spec", "preprocessing", "preprocessing", ""))
    inside = model.entry.get(part, model.entry) if part else model.entry
    found = list(_paths(inside, (part,) if inside is not model.entry else ()))
    return draw.choice(found) if found else ("spec",)


def _value(model: Model, draw: random.Random) -> str:
    path = _some_path(model, draw)
    value = copy.deepcopy(draw.choice(EXTREMES))
    owner = _owner(model.entry, path)
    if isinstance(owner, dict | list):
        owner[path[-1]] = value
    return f"{path} = {str(value)[:30]!r}"


def _pair(model: Model, draw: random.Random) -> str:
    """The sides that must agree, changed together."""
    side = draw.choice((1, 8, 21, 64, 333, 4096, 4097, 16_384, 2**31))
    for part, key in (("spec", "input_size"), ("preprocessing", "size"), ("preprocessing", "resize_to")):
        if isinstance(model.entry.get(part), dict):
            model.entry[part][key] = side
    return f"all sides = {side}"


def _dropped(model: Model, draw: random.Random) -> str:
    path = _some_path(model, draw)
    owner = _owner(model.entry, path)
    if isinstance(owner, dict):
        owner.pop(path[-1], None)
    elif isinstance(owner, list) and owner:
        owner.pop()
    return f"without {path}"


def _more(model: Model, draw: random.Random) -> str:
    """A list a thousand times as long, or a key that nobody knows."""
    path = _some_path(model, draw)
    value = _owner(model.entry, path)
    if isinstance(value, list) and value:
        value *= draw.choice((2, 1000, 20_000))
        return f"{path[:-1]} repeated to {len(value)}"
    if isinstance(value, dict):
        value["novelty"] = 1
    return f"{path[:-1]} with a key of its own"


def _deep(model: Model, draw: random.Random) -> str:
    path = _some_path(model, draw)
    value: Any = 1
    for _ in range(draw.choice((5, 90, 400))):
        value = [value] if draw.random() < 0.5 else {"a": value}
    owner = _owner(model.entry, path)
    if isinstance(owner, dict | list):
        owner[path[-1]] = value
    return f"{path} nested"


def _tensor(model: Model, draw: random.Random) -> str:
    name = draw.choice(list(model.tensors))
    entry = model.tensors[name]
    kind = draw.choice(("shape", "shape", "data_offsets", "dtype", "rename", "drop", "twin"))
    if kind == "shape":
        entry["shape"] = draw.choice(
            ([], [0], [1] * 40, [2**62, 2**62], [10**9], entry["shape"][::-1], [-1], "x", [1.5])
        )
    elif kind == "data_offsets":
        entry["data_offsets"] = draw.choice(([0, 0], [0, 10**12], [2**63, 2**63 + 4], [8, 4], [-4, 0], [0], None))
    elif kind == "dtype":
        entry["dtype"] = draw.choice(("F64", "F16", "BF16", "I64", "U8", "F8_E4M3", "BOOL", "", "X", 7))
    else:
        if kind != "twin":
            model.tensors.pop(name)
        if kind != "drop":
            model.tensors[draw.choice(("x", "../../x", "preprocessing.mean_image", f"{name}.0", "\n\x1b"))] = entry
    return f"tensor {name}: {kind}"


def _numbers(model: Model, draw: random.Random) -> str:
    """Weights that are no numbers, or the largest there are."""
    name = draw.choice(list(model.tensors))
    value = draw.choice((math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45, 0.0))
    try:
        begin, end = model.tensors[name]["data_offsets"]
        count = (end - begin) // 4
        model.data[begin : begin + 4 * count] = np.full(min(max(count, 0), 10**6), value, "<f4").tobytes()
    except (TypeError, ValueError):
        pass
    return f"tensor {name}: all {value}"


_STEPS: tuple[Callable[[Model, random.Random], str], ...] = (
    _value, _value, _value, _value, _pair, _dropped, _more, _deep, _tensor, _tensor, _numbers,
)  # fmt: skip


def _broken_text(text: str, draw: random.Random) -> tuple[str, str]:
    """The skipway entry as no JSON, or as JSON that is hard to read."""
    kind = draw.choice(("cut", "twice", "deep", "long number", "flipped", "list", "surrogate", "many lists"))
    changed = {
        "cut": text[: draw.randrange(len(text))],
        "twice": text[:-1] + ', "spec": 1, "format": 1' + "}",
        "deep": "[" * 100_000 + "]" * 100_000,
        "long number": text.replace('"format": 1', '"format": ' + "9" * 5000, 1),
        "flipped": text.replace(draw.choice('{}[]":,'), draw.choice('{}[]":,'), 3),
        "list": f"[{text}]",
        "surrogate": text.replace("class", "\\ud800", 1),
        "many lists": '{"format": 1, "spec": [' + "[]," * 1_000_000 + "[]]}",
    }
    return f"entry {kind}", changed[kind]


def _broken_bytes(data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """The file cut, longer, or with another length in front."""
    kind = draw.choice(("cut", "longer", "length", "flipped"))
    if kind == "cut":
        return kind, data[: draw.randrange(len(data))]
    if kind == "longer":
        return kind, data + b"\0" * draw.choice((1, 4096))
    if kind == "length":
        return kind, struct.pack("<Q", draw.choice((0, 1, len(data), 2**40, 2**63, 2**64 - 1))) + data[8:]
    changed = bytearray(data)
    changed[draw.randrange(min(len(data), 4000))] ^= 1 << draw.randrange(8)
    return kind, bytes(changed)


@dataclass(frozen=True)
class Outcome:
    """`kind` is refused, answered, heavy (a consistent file whose answer was not waited for), or what went wrong."""

    kind: str
    message: str
    seconds: float
    memory: int

    @property
    def good(self) -> bool:
        """Whether the file was treated as promised."""
        return self.kind in {"refused", "answered", "heavy"}


def tried(data: bytes, file: Path) -> Outcome:
    """Load the file and ask it about one picture."""
    file.write_bytes(data)
    before = _reset_peak()
    began = time.perf_counter()
    kind, message = _answered(file)
    seconds = time.perf_counter() - began
    memory = max(_peak() - before, 0)
    if kind == "refused" and ("; " not in message or "\n" in message):
        kind = "refused badly"
    if kind != "heavy" and seconds > SECONDS:
        kind = f"slow ({kind})"
    if kind == "refused" and memory > 4 * len(data) + ALLOWANCE:
        kind = "much memory"
    return Outcome(kind, message, seconds, memory)


def _answered(file: Path) -> tuple[str, str]:
    from skipway.cost import price_of
    from skipway.errors import SkipwayError
    from skipway.inference.classifier import load

    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    try:
        classifier = load(file, "cpu")
        price = price_of(classifier.spec)
        if max(price.bytes, price.operations, price.comparisons) > _HEAVY:
            return "heavy", ""
        (answers,) = classifier.predict([picture])
        finite = all(math.isfinite(one.probability) for one in answers)
        return ("answered", "") if finite else ("not finite", "")
    except SkipwayError as error:
        return "refused", str(error)
    except Exception as error:
        return f"crash ({type(error).__name__})", str(error)[:300]


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def warm_up(folder: Path) -> None:
    """One good file first: what is imported on the way is no file's fault."""
    for model in families().values():
        tried(model.encoded(), folder / "warm.safetensors")


def attacked(seed: int, count: int, folder: Path) -> list[tuple[str, Outcome]]:
    """So many mutations, tried one after the other in this process."""
    warm_up(folder)
    found: list[tuple[str, Outcome]] = []
    for (told, data), _ in zip(mutations(seed), range(count), strict=False):
        found.append((told, tried(data, folder / "hostile.safetensors")))
    return found


def attacked_fresh(seed: int, count: int, folder: Path) -> int:
    """How many of so many, each in a process of its own by the command line, end well: exit 2 in one line, or 0."""
    good = 0
    picture = folder / "picture.ppm"
    picture.write_bytes(b"P6 40 50 255\n" + bytes(range(256)) * 23 + bytes(112))
    for (told, data), _ in zip(mutations(seed), range(count), strict=False):
        file = folder / "hostile.safetensors"
        file.write_bytes(data)
        command = [sys.executable, "-m", "skipway", "predict", str(file), str(picture), "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        refused = done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        fine = refused or (done.returncode == 0 and "nan" not in done.stdout and not done.stderr)
        good += fine
        if not fine:
            print(f"{told}: exit {done.returncode}: {done.stderr[-300:]}")
    return good


def main() -> int:
    """Print the numbers; 1 where a file was not treated as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--fresh", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = attacked(given.seed, given.count, Path(folder))
        fresh = attacked_fresh(given.seed + 1, given.fresh, Path(folder))
    for told, outcome in found:
        if not outcome.good:
            print(f"{outcome.kind}: {told}: {outcome.message} ({outcome.seconds:.1f} s, {outcome.memory >> 20} MB)")
    refused = [outcome for _, outcome in found if outcome.kind == "refused"]
    good = sum(outcome.good for _, outcome in found)
    slowest = max((outcome.seconds for outcome in refused), default=0.0)
    largest = max((outcome.memory for outcome in refused), default=0)
    print(f"hostile headers, one process: {good} of {len(found)} {dict(Counter(one.kind for _, one in found))}")
    print(f"  slowest refusal {slowest:.2f} s, largest {largest / 2**20:.0f} MB")
    print(f"hostile headers, fresh processes: {fresh} of {given.fresh}")
    return 0 if good == len(found) and fresh == given.fresh else 1


if __name__ == "__main__":
    sys.exit(main())
