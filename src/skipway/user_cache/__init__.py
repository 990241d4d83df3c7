"""The one folder where skipway keeps what it can make again. A file in it is read only if it is as it was written."""

from skipway.user_cache.entry import CacheEntry, scratch_entry
from skipway.user_cache.place import (
    BOUND_VARIABLE,
    PLACE_VARIABLE,
    cache_folder,
    picture_memory,
    prepare_font_folder,
)
from skipway.user_cache.report import CacheReport, EntryFacts, inspect_cache
from skipway.user_cache.store import claimed_entry

__all__ = [
    "BOUND_VARIABLE",
    "PLACE_VARIABLE",
    "CacheEntry",
    "CacheReport",
    "EntryFacts",
    "cache_folder",
    "claimed_entry",
    "inspect_cache",
    "picture_memory",
    "prepare_font_folder",
    "scratch_entry",
]
