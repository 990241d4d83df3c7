"""Tests of what a pickle of PyTorch holds, before it is taken for what it should be."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number that is not negative."""
    return type(value) is int and value >= 0


def is_tuple(value: object, length: int) -> TypeGuard[tuple[Any, ...]]:
    """Whether it is a tuple of so many items."""
    return isinstance(value, tuple) and len(value) == length
