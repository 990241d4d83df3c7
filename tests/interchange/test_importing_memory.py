"""Large files: the time that an import takes, and the memory beside the libraries' own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.marks import slow_but

from skipway.interchange.caffe import write as caffe_writer
from skipway.interchange.mapping import alexnet_names as alexnet
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import source_shape
from skipway.interchange.numpy import write as npy_write
from skipway.models.catalog import find_spec

_MEASURED = """
import json, sys, time
from pathlib import Path
from skipway.models.catalog import find_spec
from skipway.interchange import importing

def memory(field):  # of this process alone: ru_maxrss starts with what its parent had
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

before, start = memory("VmRSS"), time.monotonic()
importing.import_weights(Path(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps({"bytes": memory("VmHWM") - before, "seconds": time.monotonic() - start}))
"""


# The largest matrix, three fifths of all, is turned for a .npy: it is there twice.
@pytest.mark.parametrize(
    ("ending", "times"), slow_but([("pth", 1.35), ("npy", 1.5), ("caffemodel", 1.35)], quick=[("pth", 1.35)])
)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's account of memory")
def test_an_alexnet_of_240_mb_takes_little_time_and_memory(to: Path, tmp_path: Path, ending: str, times: float) -> None:
    file = _large(tmp_path / f"alexnet.{ending}")
    size = file.stat().st_size
    assert size > 240e6
    answer = subprocess.run(
        [sys.executable, "-c", _MEASURED, file, to], capture_output=True, text=True, check=True, timeout=120
    )
    used = json.loads(answer.stdout.splitlines()[-1])
    assert used["bytes"] < times * size
    assert used["seconds"] < 10


def _large(file: Path) -> Path:
    spec = find_spec("alexnet.owt" if file.suffix == ".pth" else "alexnet.caffe")
    scheme = {".pth": alexnet.TORCHVISION, ".npy": alexnet.NPY, ".caffemodel": alexnet.CAFFE}[file.suffix]
    shapes = {key.name: key.shape for key in keys_of(spec)}
    draw = np.random.default_rng(0)
    arrays = {}
    for name, place in scheme.places(spec).items():
        assert place is not None
        arrays[place.source] = draw.random(source_shape(shapes[name], place), np.float32) - np.float32(0.5)
    if file.suffix == ".pth":
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, file)
    elif file.suffix == ".npy":
        npy_write.write_npy(file, arrays)
    else:
        caffe_writer.write(file, arrays)
    return file
