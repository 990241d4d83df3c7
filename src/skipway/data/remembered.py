"""What was found out about picture files is remembered, so that a large folder is not decoded again at every start.

A file is known again by its device, inode, size and times, as git knows its files. Any change of it, or a copy over it,
changes one of these. What is remembered lies in the user's cache, which nobody else can write, and each row has a
checksum.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from skipway.data.identity import DIGEST_BYTES
from skipway.errors import CacheError
from skipway.user_cache import picture_memory

_FORMAT = 1
_MOST_ROWS = 2_000_000  # about 500 MB
_AT_ONCE = 10_000
# A file that was written so lately may be written again without a change of its times.
_SETTLED_NS = 3 * 10**9
_WAIT_S = 2.0  # for another process that writes there
_TABLE = f"""
CREATE TABLE IF NOT EXISTS pictures_{_FORMAT} (
    device INTEGER, inode INTEGER, size INTEGER, modified INTEGER, changed INTEGER,
    side INTEGER, grey INTEGER, digest BLOB, thumbnail BLOB, checksum BLOB, PRIMARY KEY (device, inode)
)
"""


@dataclass(frozen=True)
class Probed:
    """What one good picture is like: its shorter side in pixels, whether it has no colour, the digest of its bytes and
    its thumbnail."""

    side: int
    grey: bool
    digest: bytes
    thumbnail: bytes


Key = tuple[int, int, int, int, int]


def file_key(file: Path) -> Key | None:
    """Device, inode, size and the times of the last changes; None for a file that cannot be asked or that has just been
    written."""
    try:
        facts = file.stat()
    except OSError:
        return None
    if time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < _SETTLED_NS:
        return None
    # SQLite's numbers have a sign, and some systems' inodes use all 64 bits.
    return facts.st_dev, _signed(facts.st_ino), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def recall(keys: Sequence[Key | None]) -> list[Probed | None]:
    """What is remembered of the files with these keys, None for each that is not known. Never an error: what cannot be
    remembered is found out again."""
    if not any(keys):
        return [None] * len(keys)
    try:
        with _opened() as memory:
            return [None if key is None else _row(memory, key) for key in keys]
    except (CacheError, sqlite3.Error, OSError):
        return [None] * len(keys)


def _row(memory: sqlite3.Connection, key: Key) -> Probed | None:
    found = memory.execute(
        f"SELECT size, modified, changed, side, grey, digest, thumbnail, checksum FROM pictures_{_FORMAT} "
        "WHERE device = ? AND inode = ?",
        key[:2],
    ).fetchone()
    if found is None or found[:3] != key[2:]:
        return None
    side, grey, digest, thumbnail, checksum = found[3:]
    if not isinstance(side, int) or not isinstance(digest, bytes) or not isinstance(thumbnail, bytes):
        return None
    probed = Probed(side, bool(grey), digest, thumbnail)
    return probed if checksum == _checksum(key, probed) else None


def _checksum(key: Key, probed: Probed) -> bytes:
    facts = f"{key} {probed.side} {probed.grey} ".encode()
    return hashlib.blake2b(facts + probed.digest + probed.thumbnail, digest_size=DIGEST_BYTES).digest()


def remember(found: Sequence[tuple[Key, Probed]]) -> None:
    """Keep what was found out about files; more than two million push the others out. Never an error."""
    if not found:
        return
    try:
        with _opened() as memory:
            for start in range(0, len(found), _AT_ONCE):
                rows = [_columns(key, probed) for key, probed in found[start : start + _AT_ONCE]]
                memory.executemany(f"INSERT OR REPLACE INTO pictures_{_FORMAT} VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
                memory.commit()
            _forget_the_oldest(memory)
    except (CacheError, sqlite3.Error, OSError):
        return


def _columns(key: Key, probed: Probed) -> tuple[int | bytes, ...]:
    look = (probed.side, int(probed.grey), probed.digest, probed.thumbnail)
    return (*key, *look, _checksum(key, probed))


def _forget_the_oldest(memory: sqlite3.Connection) -> None:
    (count,) = memory.execute(f"SELECT COUNT(*) FROM pictures_{_FORMAT}").fetchone()
    if count > _MOST_ROWS:
        memory.execute(
            f"DELETE FROM pictures_{_FORMAT} WHERE rowid IN "
            f"(SELECT rowid FROM pictures_{_FORMAT} ORDER BY rowid LIMIT ?)",
            (count - _MOST_ROWS,),
        )
        memory.commit()


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The database. One that is damaged is made anew. Raises CacheError, sqlite3.Error and OSError."""
    file = picture_memory()
    for attempt in range(2):
        memory = sqlite3.connect(file, timeout=_WAIT_S)
        try:
            memory.execute("PRAGMA trusted_schema = OFF")
            memory.execute(_TABLE)
            break
        except sqlite3.DatabaseError as error:
            memory.close()
            if attempt or isinstance(error, sqlite3.OperationalError):
                raise
            os.unlink(file)  # noqa: PTH108 (of the database alone, whatever it is)
    with closing(memory):
        yield memory
