"""What only tests call is no part of the package."""

from __future__ import annotations

import ast

from scripts.unused_names import definitions, unused_names, uses

CODE = """
from elsewhere import taken as other
LIMIT: int = 3
SPARE = 4

class Box:
    width: int
    height: int

    def area(self):
        return self.width * LIMIT

    @property
    def side(self):
        return 1

def alone(): ...
"""


def test_every_name_of_the_source_is_used_by_more_than_tests() -> None:
    assert not unused_names(), "delete them, or move them to the tests"


def test_the_check_of_names_sees_what_is_defined_and_what_is_used() -> None:
    tree = ast.parse(CODE)
    defined = [name for _, name in definitions(tree)]
    assert defined == ["LIMIT", "SPARE", "Box", "width", "height", "area", "alone"]
    used = set(uses(tree))
    assert {"taken", "LIMIT", "width"} <= used
    assert not {"SPARE", "height", "area", "alone", "Box"} & used
