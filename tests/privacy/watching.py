"""A child process under watch: what it looked up, connected to, and wrote outside the folders that it was given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"

# One process for several commands: most of a command's time is the import of torch.
RUN_COMMANDS = """
import json, sys, time
from skipway.cli import main
for command in json.loads(sys.argv[1]):
    began = time.process_time()
    try:
        main(command)
    except SystemExit as end:
        status = end.code
    print("STATUS", status, *command[:3], f"{time.process_time() - began:.1f} s", file=sys.stderr, flush=True)
time.sleep(float(sys.argv[2]))  # for whatever would be sent a little later
"""


@dataclass
class Watched:
    """`notes` has a line for each thing that should not have happened."""

    notes: list[str]
    home: list[str]
    status: int
    text: str


@dataclass
class Room:
    """Folders for children: an empty home, one to work in, and what watches."""

    folder: Path
    without_network: bool = True
    home: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home, self.work = self.folder / "home", self.folder / "work"
        for folder in (self.home, self.work, self.folder / "tmp", self.folder / "elsewhere"):
            folder.mkdir()

    def commands(self, *commands: list[str], wait_s: float = 0.5) -> Watched:
        """Run commands of skipway, one after the other."""
        return self.python("-c", RUN_COMMANDS, json.dumps(commands), str(wait_s))

    def python(self, *arguments: str, timeout_s: float = 3600) -> Watched:
        """Run Python in the work folder."""
        log = self.folder / "log"
        log.write_text("")
        command = [*(network_less() if self.without_network else []), sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.work, env=self._environment(log), text=True, timeout=timeout_s, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        home = sorted(str(file.relative_to(self.home)) for file in self.home.rglob("*"))
        return Watched(log.read_text().splitlines(), home, done.returncode, done.stdout)

    def _environment(self, log: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL", "SKIPWAY_"))}
        for name in ("ORT_DISABLE_TELEMETRY", "CI", "TORCHINDUCTOR_CACHE_DIR"):
            kept.pop(name, None)
        allowed = (self.work, self.folder / "tmp", self.folder / "cache")
        library = watching_library(self.folder)
        return kept | {
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
            "SKIPWAY_CACHE_DIR": str(self.folder / "cache"),
            "PYTHONPATH": os.pathsep.join((str(HERE), str(SOURCE))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "PRIVACY_LOG": str(log),
            "PRIVACY_ALLOWED": os.pathsep.join(map(str, allowed)),
            **({"LD_PRELOAD": str(library)} if library else {}),
        }


def watching_library(folder: Path) -> Path | None:
    """The C library's calls under watch, too; None where nothing can compile that, or where there is no glibc."""
    library = folder / "watch_libc.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "watch_libc.c"), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
    return library


def network_less() -> list[str]:
    """The start of a command that runs another without any network, its own machine's neither; [] where forbidden."""
    for words in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ):
            return words
    return []
