"""Every claim of the table, at both budgets."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import skipway
from skipway.claims.arm import Budget
from skipway.claims.catalog import NAMES, all_claims, find_claim, module_name
from skipway.claims.claim import Settings
from skipway.errors import UnknownNameError

CLAIMS = Path(skipway.__file__).parent / "claims"
BUDGETS: tuple[Budget, ...] = ("quick", "full")


def test_the_table_has_the_fourteen() -> None:
    assert len(NAMES) == len(set(NAMES)) == 14
    assert [one.name for one in all_claims()] == list(NAMES)


def test_an_unknown_claim_names_the_nearest_and_the_list() -> None:
    with pytest.raises(UnknownNameError, match=r"relu-vs-tanh.*--list"):
        find_claim("relu-vs-tan")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_all_arms_can_be_built(name: str, budget: Budget) -> None:
    claim = find_claim(name)
    arms = claim.arms(budget)
    assert len({one.name for one in arms}) == len({one.label for one in arms}) == len(arms) >= 1
    with torch.device("meta"):
        for arm in arms:
            network = arm.spec.build()
            assert sum(one.numel() for one in network.parameters()) > 0
    assert all(arm.recipe.keep == "last" for arm in arms)


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_says_what_it_is(name: str) -> None:
    claim = find_claim(name)
    assert claim.sentence.endswith(".")
    assert claim.rule.endswith(".")
    assert "eld" in claim.rule
    assert "ndecided" in claim.rule
    assert claim.said["quick"] != claim.said["full"]
    assert min(claim.seeds.values()) >= 3
    assert any(char.isdigit() for char in claim.source)


@pytest.mark.parametrize("name", NAMES)
def test_the_full_budget_takes_all_pictures_and_more_updates(name: str) -> None:
    claim = find_claim(name)
    quick, full = ({one.name: one for one in claim.arms(budget)} for budget in BUDGETS)
    assert all(one.pictures == one.test_pictures == 0 for one in full.values())
    assert len(full) >= len(quick)


def test_epochs_and_seeds_can_be_given() -> None:
    claim = find_claim("lrn")
    settings = Settings(seeds=2, seed=5, epochs=1)
    assert settings.seeds_of(claim) == (5, 6)
    assert {arm.recipe.epochs for arm in settings.arms_of(claim)} == {1}
    assert Settings().seeds_of(claim) == tuple(range(claim.seeds["quick"]))


def claims_imported(file: Path) -> set[Path]:
    """The files of claims/ that a file of it imports, also inside functions and for type checking alone."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skipway.claims"):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                path = CLAIMS.parents[1].joinpath(*str(name).split(".")).with_suffix(".py")
                if path.is_file():
                    found.add(path)
    return found


def test_no_file_of_claims_imports_itself_by_way_of_others() -> None:
    left = {file: claims_imported(file) for file in CLAIMS.rglob("*.py")}
    assert left[CLAIMS / "reproduce.py"] >= {CLAIMS / "catalog.py", CLAIMS / "outcome.py", CLAIMS / "running.py"}
    while ready := [file for file, imports in left.items() if not imports & left.keys()]:
        for file in ready:
            del left[file]
    assert not left, "these import each other"


def test_each_claim_is_a_file_that_knows_no_other() -> None:
    files = {CLAIMS / "experiments" / f"{module_name(name)}.py" for name in NAMES}
    assert files == set((CLAIMS / "experiments").glob("[!_]*.py"))
    for file in files:
        assert not claims_imported(file) & files
