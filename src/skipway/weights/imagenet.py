"""The names of ImageNet's classes, as torchvision has them."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

_COUNT = 1000


def imagenet_names() -> tuple[str, ...]:
    """The 1,000 names in the order of the classes.

    They are read from torchvision's source: to import the package takes 160 MB of memory and a second, and an import
    of weights needs nothing else of it. Where they are not found there, the package is imported after all.
    """
    found = find_spec("torchvision")
    if found is not None and found.origin is not None:
        package = Path(found.origin).parent
        names = _assigned_list(package / "models" / "_meta.py", "_IMAGENET_CATEGORIES")
        if len(names) == _COUNT:
            return names
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _assigned_list(file: Path, name: str) -> tuple[str, ...]:
    """The texts of a list that a Python file assigns to a name; () where it does not."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:
            if not isinstance(node, ast.Assign):
                continue
            targets = [ast.unparse(target) for target in node.targets]
            if targets == [name]:
                values = ast.literal_eval(node.value)
                return tuple(str(value) for value in values)
    except (OSError, SyntaxError, ValueError, TypeError):
        # Another version of torchvision may keep the names elsewhere.
        return ()
    return ()
