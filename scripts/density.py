"""How dense the source is: decisions a statement, and statements a function, room by room.

    python scripts/density.py [FOLDER] [--most DECISIONS] [--longest STATEMENTS] [--files]

Decisions are if, for, while, conditional expressions, comprehensions, except, the cases of match, each further operand
of `and` and `or`, and one for every function. Only what stands inside functions counts. `--most` and `--longest` make
the command fail where the mean is above them. The same figure of torchvision 0.29 is 0.39.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "skipway"
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler, ast.match_case)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Density:
    """The counts of some functions."""

    functions: int = 0
    statements: int = 0
    decisions: int = 0

    @property
    def per_statement(self) -> float:
        """Decisions a statement."""
        return self.decisions / max(self.statements, 1)

    @property
    def per_function(self) -> float:
        """Statements a function."""
        return self.statements / max(self.functions, 1)

    def add(self, other: Density) -> None:
        """Count the functions of `other`, too."""
        self.functions += other.functions
        self.statements += other.statements
        self.decisions += other.decisions


def decisions_of(node: ast.AST) -> int:
    """How many decisions a single node of a syntax tree is."""
    if isinstance(node, BRANCHES + COMPREHENSIONS):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return 0


def density_of(tree: ast.AST) -> Density:
    """The counts of all functions of a file. What stands in a function inside another belongs to both."""
    counts = Density()
    for function in ast.walk(tree):
        if not isinstance(function, FUNCTIONS):
            continue
        counts.functions += 1
        counts.decisions += 1
        for node in ast.walk(function):
            counts.decisions += decisions_of(node)
            if isinstance(node, ast.stmt) and node is not function:
                counts.statements += 1
    return counts


def measured(folder: Path, *, by_file: bool) -> dict[str, Density]:
    """The counts of a folder's rooms, or of its files, by name."""
    found: dict[str, Density] = defaultdict(Density)
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder)
        if "tests" in inside.parts:
            continue
        name = str(inside) if by_file else inside.parts[0]
        found[name].add(density_of(ast.parse(file.read_text(encoding="utf-8"))))
    return found


def main() -> int:
    """Print the table; 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description="Decisions a statement and statements a function.")
    parser.add_argument("folder", nargs="?", type=Path, default=SOURCE)
    parser.add_argument("--most", type=float, default=float("inf"), help="decisions a statement")
    parser.add_argument("--longest", type=float, default=float("inf"), help="statements a function")
    parser.add_argument("--files", action="store_true", help="a line for each file")
    options = parser.parse_args()
    rows = measured(options.folder, by_file=options.files)
    total = Density()
    for counts in rows.values():
        total.add(counts)
    rows["all"] = total
    for name, counts in rows.items():
        figures = f"{counts.functions:6} functions {counts.statements:6} statements {counts.decisions:6} decisions"
        print(f"{name:44} {figures}  {counts.per_statement:.3f} a statement  {counts.per_function:4.1f} a function")
    if total.per_statement > options.most:
        print(f"{total.per_statement:.3f} decisions a statement, {options.most} are allowed: write out what is dense")
    if total.per_function > options.longest:
        print(f"{total.per_function:.1f} statements a function, {options.longest} are allowed: divide long functions")
    return int(total.per_statement > options.most or total.per_function > options.longest)


if __name__ == "__main__":
    sys.exit(main())
