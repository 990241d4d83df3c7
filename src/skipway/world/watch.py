"""Whether the other ranks still run: each increases a number of its own in the store of the process group.

A collective operation waits for all ranks, and a rank may be silent for long: it checks pictures, or writes a report.
So no time limit of a collective can distinguish a slow rank from a lost one. A number that stands still can.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # its stub names it, but exports nothing

BEAT_SECONDS = 1.0
# Far more than the longest pause of a living process, such as one that waits for its interpreter lock.
LOST_SECONDS = 30.0
_BLAME_SECONDS = 5.0
_STORE_SECONDS = 20.0
_LEFT = "left"  # what a rank writes in place of its number when it ends
_LOST = "lost"  # the key under which the first rank that knows of a lost one names it

# How often this process has joined a world. It is the same in every rank, and keeps apart the keys of each time.
_joined = itertools.count()


class Watch:
    """Increases the number of this rank, and ends the process with one line when another rank is lost.

    `fix` is the end of that line. Python cannot wake a rank that waits in a collective operation, so the process is
    ended at once. Files appear whole or not at all, so nothing half-written is left.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.fix = "start the command again, with all its processes"
        self._rank = rank
        self._size = size
        # torchrun's store stays when torchrun restarts the ranks.
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._prefix = f"skipway/{restarts}/{next(_joined)}"
        self._store = _own_connection()
        self._others = [other for other in range(size) if other != rank]
        # The last number of each other rank, and when it was first seen.
        self._seen = dict.fromkeys(self._others, ("", time.monotonic()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, daemon=True)
        self._store.set(self._key(rank), "0")

    def start(self) -> None:
        """Begin, once every rank has made its watch."""
        self._thread.start()

    def end(self) -> None:
        """Stop watching, and let the others know that this rank's number stands still from now on."""
        self._ended.set()
        self._thread.join(_BLAME_SECONDS)
        with contextlib.suppress(RuntimeError):  # the store may have gone with its process
            self._store.set(self._key(self._rank), _LEFT)

    def explain(self, cause: str) -> str:
        """One line on why the ranks cannot go on. Takes a few seconds: a number has to stand still for a while."""
        lost = self._likely_lost()
        if lost is None:
            return f"the connection to the other ranks broke ({cause}), though all of them answer; {self.fix}"
        self._name_to_others(lost)
        return self._message(lost)

    def _message(self, lost: int) -> str:
        return (
            f"rank {lost} of {self._size} is lost: it ended, was killed, or its machine does not answer (what it "
            f"printed may say why); {self.fix}"
        )

    def _likely_lost(self) -> int | None:
        """The rank that most likely was lost; None where all seem to run."""
        deadline = time.monotonic() + _BLAME_SECONDS
        while time.monotonic() < deadline:
            try:
                named = self._named_by_others()
            except RuntimeError:
                return 0  # the store lives in rank 0, or in torchrun beside it
            if named is not None:
                return named
            for other in self._others:
                number, _ = self._seen[other]
                if number == _LEFT:
                    return other
            time.sleep(BEAT_SECONDS / 4)
        now = time.monotonic()
        quietest = self._others[0]
        longest = 0.0
        for other in self._others:
            _, since = self._seen[other]
            if now - since > longest:
                quietest = other
                longest = now - since
        if longest > 2.5 * BEAT_SECONDS:
            return quietest
        return None

    def _name_to_others(self, lost: int) -> None:
        """Write the lost rank's number where the others find it."""
        try:
            self._store.set(self._key(_LOST), str(lost))
        except RuntimeError:
            return
        if self._rank == 0:  # the store may end with this process, and the others have to read it before
            time.sleep(2 * BEAT_SECONDS)

    def _beat_until_ended(self) -> None:
        """Increase this rank's number and look at the others', once a second, until `end`."""
        for beat in itertools.count(1):
            if self._ended.wait(BEAT_SECONDS):
                return
            try:
                self._store.set(self._key(self._rank), str(beat))
                lost = self._named_by_others()
                if lost is None:
                    lost = self._silent()
            except RuntimeError:
                lost = 0  # the store lives in rank 0, or in torchrun beside it
            if lost is None:
                continue
            # The main thread may be about to notice by itself, or to end in good order.
            ended = self._ended.wait(_BLAME_SECONDS + 2 * BEAT_SECONDS)
            if not ended:
                self._name_to_others(lost)
                _end_process(self._message(lost))

    def _silent(self) -> int | None:
        """Look at every other rank's number; return a rank whose number stands still for too long, or that has left."""
        now = time.monotonic()
        for other in self._others:
            number = self._store.get(self._key(other)).decode()
            before, _ = self._seen[other]
            if number != before:
                self._seen[other] = (number, now)
        for other, (number, since) in self._seen.items():
            if number == _LEFT or now - since > LOST_SECONDS:
                return other
        return None

    def _named_by_others(self) -> int | None:
        """The rank that another one has found to be lost; None where there is none, or where it is this one."""
        key = self._key(_LOST)
        if not self._store.check([key]):
            return None
        named = int(self._store.get(key))
        if named == self._rank:
            return None
        return named

    def _key(self, name: int | str) -> str:
        return f"{self._prefix}/{name}"


def _own_connection() -> TCPStore:
    """A connection to the store beside the process group's, where a waiting operation would delay the beat."""
    address = os.environ["MASTER_ADDR"]
    port = int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=_STORE_SECONDS)
    return TCPStore(address, port, is_master=False, timeout=timeout, wait_for_workers=False)


def _end_process(line: str) -> None:
    """Print an error and end all threads of the process at once."""
    os.write(2, f"error: {line}\n".encode("utf-8", "backslashreplace"))
    os._exit(2)
