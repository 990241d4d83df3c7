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

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@contextmanager
def compiler_folder(folder: Path) -> Iterator[None]:
    """Let torch compile into `folder` inside the block, and what is compiled later into a folder of this process."""
    use_own_compiler_folder()
    before = os.environ[_VARIABLE]
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ[_VARIABLE] = before


def use_own_compiler_folder() -> None:
    """Let torch compile into a folder that ends with this process, unless TORCHINDUCTOR_CACHE_DIR is set."""
    if _VARIABLE not in os.environ:
        folder = tempfile.mkdtemp(prefix="skipway-compiler-")
        os.environ[_VARIABLE] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
