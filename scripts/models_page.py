"""Writes docs/models.md from the catalog: `python scripts/models_page.py`."""

from __future__ import annotations

from pathlib import Path

from skipway.drawing.page import models_page

PAGE = Path(__file__).parents[1] / "docs" / "models.md"

if __name__ == "__main__":
    PAGE.write_text(models_page(), encoding="utf-8")
    print(f"wrote {PAGE}")
