"""What the pages show must run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from skipway.models.catalog import CATALOG

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_a_network_of_ones_own_in_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "from skipway.models" in block)
    assert len([line for line in code.splitlines() if line]) == 10
    torch.manual_seed(1)
    names: dict[str, Any] = {}
    exec(code, names)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 10
    assert losses[-1] < 0.6 * losses[0]
    assert names["mine"](names["x"].view(-1, 1, 28, 28).float()).shape == (500, 10)


def test_the_first_page_counts_the_rows() -> None:
    assert f"\n{len(CATALOG)} rows" in README


def test_the_page_on_networks_of_ones_own() -> None:
    """Its blocks are one program."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "building.md").read_text(), re.S)
    assert len(blocks) == 3
    exec("".join(blocks), {})
