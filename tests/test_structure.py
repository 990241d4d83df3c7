"""How the house is built: which room may know which, how long a file may grow, what a command may load."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import skipway

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "skipway"
FILES = sorted(SOURCE.rglob("*.py"))

# A room may import its own files and the rooms of lower floors. Rooms that share a floor do not know each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "version"),
    ("values", "machine", "files", "reporting", "plotting", "privacy"),
    ("world", "user_cache"),
    ("models", "data"),
    ("cost",),
    ("weights",),
    ("inference", "interchange"),
    ("evaluation",),
    ("training",),
    ("claims", "demo", "drawing", "serving"),
    ("benchmark",),
    ("workflows",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The package itself hands out names of every library room, on first use: it stands right below the command line.
FLOOR["__init__"] = FLOOR["cli"] - 0.5  # type: ignore[assignment]

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also those inside functions and for type checking alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for line, name in imported(tree):
        parts = name.split(".")
        if parts[0] == "skipway" and len(parts) > 1:
            yield line, parts[1] if parts[1] in FLOOR else "__init__"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_run_one_way(file: Path) -> None:
    room = room_of(file)
    assert room in FLOOR, f"give {room} a floor in tests/test_structure.py"
    for line, other in rooms_imported(ast.parse(file.read_text())):
        assert other == room or FLOOR[other] < FLOOR[room], f"{file}:{line}: {room} may not import {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_other_frameworks_files_are_a_wing(file: Path) -> None:
    """Only the command line, and what joins both sides for it, knows of other frameworks' files."""
    if room_of(file) not in {"interchange", "workflows", "cli"}:
        rooms = {other for _, other in rooms_imported(ast.parse(file.read_text()))}
        assert "interchange" not in rooms, f"{file} stands on interchange"


def test_the_check_of_imports_sees_all_forms() -> None:
    code = """
import skipway.cli
from skipway.training import run
from skipway import evaluate
def f():
    from skipway.data.draws import uniform
"""
    assert [room for _, room in rooms_imported(ast.parse(code))] == ["cli", "training", "__init__", "data"]


def module_of(file: Path) -> str:
    parts = ("skipway", *file.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {module_of(file): file for file in FILES}
    graph: dict[str, set[str]] = {}
    for name, file in modules.items():
        found: set[str] = set()
        for _, full in imported(ast.parse(file.read_text())):
            parent = full.rpartition(".")[0]
            found |= {module for module in (full, parent) if module in modules and module != name}
        # A package's own file stands for nothing where one of its modules is meant.
        graph[name] = {module for module in found if not any(other.startswith(f"{module}.") for other in found)}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_networks_are_torch_and_nothing_else() -> None:
    allowed = sys.stdlib_module_names | {"torch", "skipway"}
    for file in FILES:
        if room_of(file) == "models":
            found = {name.split(".")[0] for _, name in imported(ast.parse(file.read_text()))}
            assert found <= allowed, f"{file} imports {found - allowed}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text()
    lines = text.count("\n")
    assert lines <= MAX_FILE_LINES, f"{file} has {lines} lines; divide it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{file}:{node.lineno}: {node.name} has {length} lines; divide it"


PUBLIC = {
    "Recipe",
    "SkipwayError",
    "__version__",
    "create_model",
    "evaluate",
    "list_models",
    "load",
    "resume",
    "train",
}  # fmt: skip


def test_public_names_are_pinned() -> None:
    assert set(skipway.__all__) == PUBLIC
    assert len(skipway.__all__) == len(PUBLIC)
    assert all(getattr(skipway, name) is not None for name in PUBLIC)
    assert not hasattr(skipway, "no_such_name")


HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "PIL",
    "matplotlib",
    "rich",
    "h5py",
    "tensorboard",
    "safetensors",
    "jinja2",
    "mlxtend",
    "onnx",
    "onnxscript",
    "onnxruntime",
)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_asking_for_help_loads_nothing_heavy(option: str) -> None:
    code = f"""
import sys
from skipway.cli import main
sys.argv = ["skipway", {option!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", *sorted({{name.split(".")[0] for name in sys.modules}} & set({HEAVY!r})))
"""
    answer, _, loaded = run_python(code).rpartition("LOADED")
    assert not loaded.split()
    assert skipway.__version__ in answer if option == "--version" else "train" in answer


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = run_python(f"import sys, skipway; print(*(set(sys.modules) & set({HEAVY!r})))")
    assert not loaded.split()


def project_files() -> list[Path]:
    """What git tracks or would track; without git, the folders that a source archive holds."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.SubprocessError):
        files = [file for folder in ("src", "tests", "docs", "benchmarks") for file in (ROOT / folder).rglob("*")]
        files += list(ROOT.glob("*.*"))
    return [file for file in files if file.is_file()]


# Written in two parts, or this file would name them.
REGISTRIES = tuple(
    first + second
    for first, second in (
        ("pypi", ".org"), ("pythonhosted", ".org"), ("download.", "pytorch.org"), ("repo.", "anaconda.com"),
        ("conda.", "anaconda.org"), ("registry.", "npmjs.org"),
    )
)  # fmt: skip


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is each machine's own setting."""
    files = project_files()
    assert ROOT / "pyproject.toml" in files
    for file in files:
        text = file.read_bytes().decode("utf-8", "replace").lower()
        for host in REGISTRIES:
            assert host not in text, f"{file} names {host}"
