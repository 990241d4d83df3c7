"""What some options of an import may be, for the help and for the check; it loads nothing that reads weights."""

from __future__ import annotations

NO_POOL = "none"
STEM_POOLS = (NO_POOL, "symmetric", "same", "valid", "zeros", "ceil")  # the others are paddings of the max pool
SHORTCUT_PADS = ("after", "both", "before")
