"""Builds the source archive and the wheel and tries them: `make dist`, or `python scripts/check_dist.py [--quick]`.

The wheel is built from the source archive, so that what is installed here is what both files give. Checked are the
metadata (`twine check --strict`), what the files contain, and, in an environment that has nothing but the wheel and
what it requires: the version, an import of old weights that the source archive carries, and the demo, which trains
(`--quick` leaves the demo out).
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
FIXTURE = "tests/interchange/fixtures/keras_topology/keras2_v1_basic.h5.gz"
IN_WHEEL = ("skipway/__init__.py", "skipway/py.typed", "skipway/cli/__init__.py")
IN_ARCHIVE = (
    "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "LICENSE",
    "Makefile", "constraints.txt", ".ci/run", "src/skipway/py.typed", "scripts/check_dist.py", "tests/conftest.py",
    "docs/architecture.md", FIXTURE,
)  # fmt: skip


def main() -> None:
    """Build, check, install, try. Any failure ends the program with the command that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the demo, which trains")
    quick = parser.parse_args().quick
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="dist-") as name:
        work = Path(name)
        with timed("build"):
            archive, wheel = build(work)
        check_names(archive, wheel)
        with timed("install into an empty environment"):
            program = installed(wheel, work)
        attempts = work / "attempts"
        attempts.mkdir()
        with timed("import of old weights"):
            import_fixture(program, archive, attempts)
        if not quick:
            with timed("demo"):
                run(program / "skipway", "demo", "--out", "demo", cwd=attempts)
    print(f"checked: {archive}, {wheel}")


def build(work: Path) -> tuple[Path, Path]:
    """The source archive and the wheel made from it, with metadata that a package index takes."""
    shutil.rmtree(DIST, ignore_errors=True)
    tools = environment(work / "tools")
    run(tools / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build", "twine", cwd=work)
    run(tools / "python", "-m", "build", "--outdir", DIST, ROOT, cwd=work)
    (archive,) = DIST.glob("*.tar.gz")
    (wheel,) = DIST.glob("*.whl")
    run(tools / "python", "-m", "twine", "check", "--strict", archive, wheel, cwd=work)
    return archive, wheel


def check_names(archive: Path, wheel: Path) -> None:
    """Both hold every module and what belongs to it; the wheel holds nothing else."""
    modules = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src").rglob("*.py")}
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(archive) as opened:
        in_archive = {name.partition("/")[2] for name in opened.getnames()}
    absent = sorted((modules | set(IN_WHEEL)) - in_wheel)
    absent += sorted(({f"src/{name}" for name in modules} | set(IN_ARCHIVE)) - in_archive)
    if absent:
        sys.exit(f"error: not in the packages: {', '.join(absent)}; correct [tool.hatch.build] of pyproject.toml")
    strange = sorted(name for name in in_wheel if not re.match(r"skipway(-[^/]+\.dist-info)?/", name))
    if strange:
        sys.exit(f"error: in the wheel, but not of the package: {', '.join(strange)}")


def installed(wheel: Path, work: Path) -> Path:
    """The folder of programs of a new environment with the wheel and what it requires."""
    program = environment(work / "empty")
    pip = (program / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel, cwd=work)
    run(program / "python", "-m", "pip", "check", cwd=work)
    version = run(program / "skipway", "--version", cwd=work).split()[-1]
    if f"-{version}-" not in wheel.name:
        sys.exit(f"error: {wheel.name} says that it is {version}")
    return program


def import_fixture(program: Path, archive: Path, folder: Path) -> None:
    """Old weights out of the source archive become a model file."""
    with tarfile.open(archive) as opened:
        (member,) = (found for found in opened.getmembers() if found.name.endswith(f"/{FIXTURE}"))
        packed = opened.extractfile(member)
        assert packed is not None
        (folder / "old.h5").write_bytes(gzip.decompress(packed.read()))
    print(run(program / "skipway", "import", "old.h5", "--to", "model.safetensors", cwd=folder))


def environment(folder: Path) -> Path:
    """A new virtual environment's folder of programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints. Neither the source nor the caller's packages are in its way."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long something took."""
    began = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
