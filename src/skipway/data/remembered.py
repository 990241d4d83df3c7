"""The facts about checked picture files are kept in a database, so that a large folder is not decoded at every start.

A file is known again by its device, inode, size and times, as git knows its files. Any change of it, or a copy over it,
changes one of these. The database lies in the user's cache, which nobody else can write to, and each row has a
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
_AT_ONCE = 10_000  # rows of a transaction
# A file that was written less than this time ago may be written again without a change of its times.
_SETTLED_NS = 3 * 10**9
_WAIT_S = 2.0  # for another process that writes there
_ATTEMPTS = 2  # to open the database
_TABLE = f"""
CREATE TABLE IF NOT EXISTS pictures_{_FORMAT} (
    device INTEGER, inode INTEGER, size INTEGER, modified INTEGER, changed INTEGER,
    side INTEGER, grey INTEGER, digest BLOB, thumbnail BLOB, checksum BLOB, PRIMARY KEY (device, inode)
)
"""


@dataclass(frozen=True)
class Probed:
    """The facts about a good picture."""

    side: int  # the shorter one, in pixels
    grey: bool  # whether it has no colour
    digest: bytes  # of the file
    thumbnail: bytes  # 64 grey values


Key = tuple[int, int, int, int, int]  # device, inode, size, and the times of the last changes of content and status


def file_key(file: Path) -> Key | None:
    """What a file is known again by: its device, inode, size and the times of its last changes.

    None for a file without such facts, and for one that has just been written.
    """
    try:
        facts = file.stat()
    except OSError:
        return None
    last_change = max(facts.st_mtime_ns, facts.st_ctime_ns)
    if time.time_ns() - last_change < _SETTLED_NS:
        return None
    return facts.st_dev, _signed(facts.st_ino), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _signed(number: int) -> int:
    """A number of 64 bits as one with a sign, as SQLite's are. The inodes of some systems use all 64 bits."""
    if number < 2**63:
        return number
    return number - 2**64


def recall(keys: Sequence[Key | None]) -> list[Probed | None]:
    """The facts that are kept about the files with these keys; None for each file that is not known.

    Never raises an error. Where the database cannot be read, no file is known.
    """
    nothing: list[Probed | None] = [None] * len(keys)
    if not any(keys):
        return nothing
    found: list[Probed | None] = []
    try:
        with _opened() as database:
            for key in keys:
                found.append(_recall_row(database, key))
    except (CacheError, sqlite3.Error, OSError):
        return nothing
    return found


def _recall_row(database: sqlite3.Connection, key: Key | None) -> Probed | None:
    """The facts about a file; None where it is not known, has changed since, or where the row is damaged."""
    if key is None:
        return None
    row = database.execute(
        f"SELECT size, modified, changed, side, grey, digest, thumbnail, checksum FROM pictures_{_FORMAT} "
        "WHERE device = ? AND inode = ?",
        key[:2],
    ).fetchone()
    if row is None:
        return None
    is_unchanged = row[:3] == key[2:]
    if not is_unchanged:
        return None
    side, grey, digest, thumbnail, checksum = row[3:]
    are_bytes = isinstance(digest, bytes) and isinstance(thumbnail, bytes)
    if not isinstance(side, int) or not are_bytes:
        return None
    probed = Probed(side, bool(grey), digest, thumbnail)
    if checksum != _checksum(key, probed):
        return None
    return probed


def _checksum(key: Key, probed: Probed) -> bytes:
    """BLAKE2b of the other columns of a row."""
    facts = f"{key} {probed.side} {probed.grey} ".encode()
    content = facts + probed.digest + probed.thumbnail
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def remember(found: Sequence[tuple[Key, Probed]]) -> None:
    """Keep the facts about files. The oldest rows are deleted where there would be more than two million.

    Never raises an error. Where the database cannot be written, nothing is kept.
    """
    if not found:
        return
    try:
        with _opened() as database:
            for start in range(0, len(found), _AT_ONCE):
                rows = [_columns(key, probed) for key, probed in found[start : start + _AT_ONCE]]
                database.executemany(f"INSERT OR REPLACE INTO pictures_{_FORMAT} VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
                database.commit()
            _delete_the_oldest(database)
    except (CacheError, sqlite3.Error, OSError):
        return


def _columns(key: Key, probed: Probed) -> tuple[int | bytes, ...]:
    """The row of a file."""
    facts = (probed.side, int(probed.grey), probed.digest, probed.thumbnail)
    checksum = _checksum(key, probed)
    return (*key, *facts, checksum)


def _delete_the_oldest(database: sqlite3.Connection) -> None:
    """Delete the oldest rows of a table that has too many."""
    (count,) = database.execute(f"SELECT COUNT(*) FROM pictures_{_FORMAT}").fetchone()
    surplus = count - _MOST_ROWS
    if surplus > 0:
        database.execute(
            f"DELETE FROM pictures_{_FORMAT} WHERE rowid IN "
            f"(SELECT rowid FROM pictures_{_FORMAT} ORDER BY rowid LIMIT ?)",
            (surplus,),
        )
        database.commit()


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The open database. A damaged one is replaced by an empty one. Raises CacheError, sqlite3.Error and OSError."""
    file = picture_memory()
    for attempt in range(1, _ATTEMPTS + 1):
        database = sqlite3.connect(file, timeout=_WAIT_S)
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute(_TABLE)
            break
        except sqlite3.DatabaseError as error:
            database.close()
            is_damaged = not isinstance(error, sqlite3.OperationalError)
            if attempt == _ATTEMPTS or not is_damaged:
                raise
            os.unlink(file)  # noqa: PTH108 (of the database alone, whatever it is)
    with closing(database):
        yield database
