"""Feeds readers of weight files with damaged ones: only ModelFileError may come of it, in 10 s and little memory.

    .venv/bin/python scripts/fuzz_formats.py caffe prototxt --seconds 180

Prints one line a reader. A file that breaks the rule is kept under --keep, its error is printed, and the exit status
is 1. Seeds are the tests' fixtures.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from skipway.errors import ModelFileError

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "interchange" / "formats" / "fixtures"
# name: (module under skipway.interchange, function, patterns of seeds under FIXTURES)
READERS = {
    "caffe": ("caffe.read", "read", ("caffe/*.caffemodel",)),
    "caffe_mean": ("caffe.read", "read_mean", ("caffe/*.binaryproto",)),
    "prototxt": ("caffe.prototxt", "read", ("caffe/*.prototxt",)),
    "npy": ("numpy.read", "read", ("torch_npy/*.np[yz]",)),
    "torch": ("torch.read", "read", ("torch_npy/*.pth",)),
    "keras_h5": ("keras.read_h5", "read", ("keras/*.h5",)),
    "keras_zip": ("keras.read_zip", "read", ("keras/*.keras",)),
    "safetensors": ("torch.safetensors", "read", ("torch_npy/timm_resnet/*.safetensors",)),
}
READERS |= {
    "tf_graph": ("tensorflow.graph", "read", ("tensorflow/*.pb",)),
    "tf_v1": ("tensorflow.checkpoint", "read", ("tensorflow/v1/model*",)),
    "tf_v2": ("tensorflow.checkpoint", "read", ("tensorflow/v2/*.index", "tensorflow/objects/*.index")),
}
LIMIT_S = 10
ALLOWANCE = 200 << 20  # bytes beyond ten times the input
EDGES = [
    b"\x00", b"\x7f", b"\x80", b"\xff", b"\x01\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80" * 12, b"\x00" * 8,
]  # fmt: skip


class TooSlowError(Exception):
    """More than LIMIT_S for one file."""


def damaged(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A seed after one to six changes: flips, edges of number ranges, cuts, repeats, pieces of another seed."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        # Half of the changes fall into the first bytes and the last, where formats keep their tables.
        span = len(data) if draw.random() < 0.5 else min(len(data), 256)
        at = draw.randrange(span + 1)
        at = len(data) - at if draw.random() < 0.25 else at
        size = draw.choice((1, 2, 4, 16, 256))
        other = draw.choice(seeds)
        start = draw.randrange(len(other))
        change = draw.randrange(8)
        if change == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif change == 1:
            edge = draw.choice(EDGES)
            data[at : at + len(edge)] = edge
        elif change == 2:
            data[at:at] = draw.choice(EDGES)
        elif change == 3:
            del data[at : at + size]
        elif change == 4:
            data[at:at] = data[at : at + size] * draw.choice((1, 2, 50))
        elif change == 5:
            data[at : at + size] = other[start : start + size]
        elif change == 6 and draw.random() < 0.3:
            del data[at:]
        elif at < len(data):
            data[at] = (data[at] + draw.choice((-1, 1))) % 256
    return bytes(data)


def without_checksums(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """`read`, where every second checkpoint passes for undamaged: else the checksums would keep the rest from being
    reached. Beside a damaged index there is a sound shard of values."""
    from skipway.interchange.tensorflow import bundle as tf_bundle
    from skipway.interchange.tensorflow import sstable

    shard = next((FIXTURES / "tensorflow" / "v2").glob("*.data-*")).read_bytes()
    turn = itertools.cycle((sstable.masked, lambda _: mock.ANY))

    def reading(path: Path) -> Any:
        beside = path.with_suffix(".data-00000-of-00001")
        if path.suffix == ".index" and not beside.exists():
            beside.write_bytes(shard)
        sstable.masked = tf_bundle.masked = next(turn)
        return read(path)

    return reading


def outcome(read: Callable[[Path], Any], file: Path, base: int) -> str:
    """`read`, `refused`, or the trace of what must not happen."""
    limit = base + 10 * file.stat().st_size + ALLOWANCE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    signal.alarm(LIMIT_S)
    try:
        for array in read(file).arrays.values():
            array.read()
    except ModelFileError as error:
        return "refused" if "\n" not in str(error) else f"an error of several lines: {error!r}"
    except BaseException:
        return traceback.format_exc()
    else:
        return "read"
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def address_space() -> int:
    """Bytes that this process has mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {LIMIT_S} s")


def fuzz(name: str, seconds: float, seed: int, keep: Path) -> bool:
    """Whether the reader stood it."""
    module, function, patterns = READERS[name]
    read = getattr(importlib.import_module(f"skipway.interchange.{module}"), function)
    if module == "tensorflow.checkpoint":
        read = without_checksums(read)
    files = sorted(file for pattern in patterns for file in FIXTURES.glob(pattern))
    if not files:
        print(f"{name}: no seeds under {FIXTURES}; give its fixtures")
        return False
    for file in files:
        if (found := outcome(read, file, address_space())) not in ("read", "refused"):
            print(f"{name}: {file}\n{found}")
            return False
    draw, counts, worst = random.Random(seed), {"read": 0, "refused": 0, "broken": 0}, 0.0
    seeds, base, start = [file.read_bytes() for file in files], address_space(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - start < seconds:
            file = Path(folder) / f"file{draw.choice(files).suffix}"
            file.write_bytes(damaged(draw, seeds))
            begin = time.monotonic()
            found = outcome(read, file, base)
            worst = max(worst, time.monotonic() - begin)
            counts[found if found in counts else "broken"] += 1
            if found not in counts:
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{name}-{counts['broken']}{file.suffix}"
                kept.write_bytes(file.read_bytes())
                print(f"{name}: {kept}\n{found}")
                if counts["broken"] == 10:
                    break
    told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    print(f"{name}: {sum(counts.values()):,} files in {time.monotonic() - start:.0f} s, {told}, slowest {worst:.2f} s")
    return not counts["broken"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", choices=[*READERS, []], help="all of them by default")
    parser.add_argument("--seconds", type=float, default=300, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, too_slow)
    stood = [fuzz(name, given.seconds, given.seed, given.keep) for name in given.readers or READERS]
    return 0 if all(stood) else 1


if __name__ == "__main__":
    sys.exit(main())
