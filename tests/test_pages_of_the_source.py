"""The pages about the source name what is there: the map of modules, the walks, the guide for contributors."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from scripts.modules_page import PAGE, SOURCE, first_paragraph, modules_page

ROOT = Path(__file__).resolve().parents[1]
# `data/loading.py::Plan.keys`: a file below src/skipway, or below the root, and a function, class or constant in it.
PLACE = re.compile(r"`([\w./-]+\.py)(?:::([\w.]+))?`")
PAGES = ("docs/architecture.md", "CONTRIBUTING.md", "RELEASING.md")


def test_the_map_of_modules_is_complete_and_current() -> None:
    text = modules_page()
    assert text.count("\n- `") == len(list(SOURCE.rglob("*.py")))
    assert PAGE.read_text(encoding="utf-8") == text, "run `python scripts/modules_page.py`"


def test_a_module_that_says_nothing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "silent.py"
    file.write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"silent\.py has no docstring"):
        first_paragraph(file)


@functools.cache
def defined(file: Path) -> frozenset[str]:
    """Names that a file defines, those of a class as `Class.name`."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign):
                names.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(prefix + node.target.id)

    collect(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return frozenset(names)


def faults(text: str) -> list[str]:
    """Places that a page names and that are not there."""
    found = []
    for path, name in PLACE.findall(text):
        file = next((root / path for root in (SOURCE, ROOT) if (root / path).is_file()), None)
        if file is None:
            found.append(path)
        elif name and name not in defined(file):
            found.append(f"{path}::{name}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_files_and_functions_that_exist(page: str) -> None:
    assert not faults((ROOT / page).read_text(encoding="utf-8"))


def test_the_walks_are_walks() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = text.split("\n## ")[1:]
    walks = [walk for walk in walks if walk.startswith("A walk: ")]
    assert len(walks) == 3
    assert all(len([name for _, name in PLACE.findall(walk) if name]) >= 8 for walk in walks)


def test_the_check_of_pages_finds_what_is_gone() -> None:
    text = "`data/loading.py::Plan.keys`, `data/loading.py::Plan.lost`, `data/lost.py`, `tests/conftest.py`"
    assert faults(text) == ["data/loading.py::Plan.lost", "data/lost.py"]


@pytest.mark.parametrize("page", PAGES)
def test_links_of_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), target


def test_hooks_and_workflow_are_the_commands_of_the_makefile() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    check = makefile.partition("\ncheck:")[2].partition("\n\n")[0]
    tools = set(re.findall(r"\$\(BIN\)/(\w+)", check))
    assert set(re.findall(r"entry: \.venv/bin/(\w+)", hooks)) == tools == {"ruff", "mypy", "python", "pytest"}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run\n" in workflow
    assert re.findall(r'"(3\.\d+)"', workflow) == ["3.11", "3.12", "3.13", "3.14"]


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([\w-]+)", (ROOT / page).read_text(encoding="utf-8")))
        assert named <= targets, (page, named - targets)
