"""Keeps a contestant, and every thread that its libraries start, on one core."""

from __future__ import annotations

import os


def keep_to_one() -> None:
    """To be called before a library starts threads; the core is the last that this process may use."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
