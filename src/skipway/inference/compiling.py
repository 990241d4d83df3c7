"""Where torch's compiler keeps what it compiled, and reads and runs again.

Left alone, it is a folder in the system's temporary one whose name everybody knows, and could have made before.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INDUCTOR, _TRITON = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"


@contextmanager
def compiler_folder(folder: Path) -> Iterator[None]:
    """Let torch compile into `folder` inside the block, and what is compiled later into a folder of this process."""
    use_own_compiler_folder()
    before = {_INDUCTOR: os.environ[_INDUCTOR], _TRITON: os.environ[_TRITON]}
    os.environ[_INDUCTOR] = str(folder)
    os.environ[_TRITON] = str(folder / "triton")
    try:
        yield
    finally:
        os.environ.update(before)


def use_own_compiler_folder() -> None:
    """Let torch and Triton compile into a folder that ends with this process, unless their variables
    TORCHINDUCTOR_CACHE_DIR and TRITON_CACHE_DIR are set.
    """
    if _INDUCTOR not in os.environ:
        folder = tempfile.mkdtemp(prefix="skipway-compiler-")
        os.environ[_INDUCTOR] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.setdefault(_TRITON, str(Path(os.environ[_INDUCTOR]) / "triton"))
