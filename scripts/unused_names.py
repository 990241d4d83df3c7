"""Names that the source defines and nothing but tests uses: `python scripts/unused_names.py`.

Names are compared as words, whatever module they belong to: what is found is unused; some of what is unused is not
found, because something else has the same name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "skipway"
USERS = (SOURCE, ROOT / "scripts", ROOT / "benchmarks")
# Methods that others call by name: torch, ONNX Runtime, typer.
CALLED_FROM_OUTSIDE = {"forward", "extra_repr", "get_next", "format_commands"}


def unused_names() -> list[str]:
    """Places like `data/jpeg.py:12: name`."""
    used = set(CALLED_FROM_OUTSIDE)
    for folder in USERS:
        for file in folder.rglob("*.py"):
            used.update(uses(ast.parse(file.read_text(encoding="utf-8"))))
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for line, name in definitions(ast.parse(file.read_text(encoding="utf-8"))):
            if name not in used and not name.startswith("__"):
                found.append(f"{file.relative_to(SOURCE).as_posix()}:{line}: {name}")
    return found


def uses(tree: ast.AST) -> Iterator[str]:
    """Every name that is read, imported, given as a keyword, or spelt as a text of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def definitions(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
    """Line and name of what a module and its classes define; what has a decorator may be used by it."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:
            yield node.lineno, node.name
        for target in _targets(node):
            yield node.lineno, target.id
        if isinstance(node, ast.ClassDef):
            yield from definitions(node)


def _targets(node: ast.stmt) -> list[ast.Name]:
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        targets = []
    return [target for target in targets if isinstance(target, ast.Name)]


if __name__ == "__main__":
    print("\n".join(unused_names()) or "every name is used")
