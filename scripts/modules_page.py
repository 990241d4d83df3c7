"""Writes docs/modules.md, the map of the source, from the modules' docstrings: `python scripts/modules_page.py`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "skipway"
PAGE = ROOT / "docs" / "modules.md"

_INTRODUCTION = """\
# Modules

One line a file, written by `scripts/modules_page.py` from the first paragraph of its docstring: change it there.
Which room may import which is in `tests/test_structure.py`, three walks through them are in
[architecture.md](architecture.md).
"""


def modules_page() -> str:
    """The page: the files of `src/skipway` by folder. Raises ValueError for a file without a docstring."""
    folders: dict[str, list[Path]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        folders.setdefault(file.parent.relative_to(SOURCE).as_posix(), []).append(file)
    return "\n".join([_INTRODUCTION, *(_section(folder, files) for folder, files in sorted(folders.items()))])


def _section(folder: str, files: list[Path]) -> str:
    title = "skipway" if folder == "." else f"{folder}/"
    lines = [f"- `{file.name}`: {first_paragraph(file)}" for file in files]
    return "\n".join([f"## {title}", "", *lines, ""])


def first_paragraph(file: Path) -> str:
    """What a file says it is, on one line. Raises ValueError where it says nothing."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{file} has no docstring; its first paragraph is its line of docs/modules.md")
    return " ".join(docstring.split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(modules_page(), encoding="utf-8")
    print(f"wrote {PAGE}")
