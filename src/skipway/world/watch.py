"""Whether the other ranks are still there: each counts up a number of its own in the store of the process group.

A collective waits for all ranks, and a rank may be silent for long: it checks pictures, or writes a report. So no time
limit of a collective can tell a slow rank from a lost one. A number that stands still can.
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
_LEFT = "left"  # how a rank that has ended, in whichever way, signs off
_LOST = "lost"  # the key under which the first rank to know names the lost one

# How often this process has joined a world: every rank counts the same, and keys of an earlier time are not read again.
_joined = itertools.count()


class Watch:
    """Beats for this rank, and ends the process with one line when another rank is lost.

    `fix` is the end of that line. A rank in a collective cannot be woken by Python, hence the hard end; files appear
    whole or not at all, so nothing half-written is left.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.fix = "start the command again, with all its processes"
        self._rank, self._size = rank, size
        # torchrun's store outlives its restarts of the ranks.
        self._prefix = f"skipway/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_joined)}"
        self._store = _own_connection()
        self._others = [other for other in range(size) if other != rank]
        now = time.monotonic()
        self._seen = dict.fromkeys(self._others, ("", now))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, daemon=True)
        self._store.set(self._key(rank), "0")

    def start(self) -> None:
        """Begin, once every rank has made its watch."""
        self._thread.start()

    def end(self) -> None:
        """Stop watching, and tell the others that this rank does not beat any more."""
        self._ended.set()
        self._thread.join(_BLAME_SECONDS)
        with contextlib.suppress(RuntimeError):  # the store may have gone with its process
            self._store.set(self._key(self._rank), _LEFT)

    def explain(self, cause: str) -> str:
        """One line on why the ranks cannot go on. Takes a few seconds: a number has to stand still for a while."""
        lost = self._blamed()
        self._name_to_others(lost)
        return self._line(lost, cause)

    def _line(self, lost: int | None, cause: str = "") -> str:
        if lost is None:
            return f"the connection to the other ranks broke ({cause}), though all of them answer; {self.fix}"
        return (
            f"rank {lost} of {self._size} is lost: it ended, was killed, or its machine does not answer (what it "
            f"printed may say why); {self.fix}"
        )

    def _blamed(self) -> int | None:
        """The rank that most likely was lost; None where all seem to be alive."""
        deadline = time.monotonic() + _BLAME_SECONDS
        while time.monotonic() < deadline:
            try:
                named = self._named_by_others()
            except RuntimeError:
                return 0
            if named is not None:
                return named
            left = [other for other in self._others if self._seen[other][0] == _LEFT]
            if left:
                return left[0]
            time.sleep(BEAT_SECONDS / 4)
        quiet = {other: time.monotonic() - self._seen[other][1] for other in self._others}
        longest = max(quiet, key=lambda other: quiet[other])
        return longest if quiet[longest] > 2.5 * BEAT_SECONDS else None

    def _name_to_others(self, lost: int | None) -> None:
        if lost is None:
            return
        try:
            self._store.set(self._key(_LOST), str(lost))
        except RuntimeError:
            return
        if self._rank == 0:  # the store may end with this process, and the others are to read it before
            time.sleep(2 * BEAT_SECONDS)

    def _beat_until_ended(self) -> None:
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
            # The main thread may be about to notice by itself, or to end in good order.
            if lost is not None and not self._ended.wait(_BLAME_SECONDS + 2 * BEAT_SECONDS):
                self._name_to_others(lost)
                _end_process(self._line(lost))

    def _silent(self) -> int | None:
        """Look at every other rank's number. A rank that has stood still for too long, or that has left."""
        now = time.monotonic()
        for other in self._others:
            beat = self._store.get(self._key(other)).decode()
            if beat != self._seen[other][0]:
                self._seen[other] = (beat, now)
        for other, (beat, since) in self._seen.items():
            if beat == _LEFT or now - since > LOST_SECONDS:
                return other
        return None

    def _named_by_others(self) -> int | None:
        key = self._key(_LOST)
        if not self._store.check([key]):
            return None
        named = int(self._store.get(key))
        return None if named == self._rank else named

    def _key(self, name: int | str) -> str:
        return f"{self._prefix}/{name}"


def _own_connection() -> TCPStore:
    """A connection beside the process group's: an operation that waits there would hold up the beat."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=_STORE_SECONDS), wait_for_workers=False)


def _end_process(line: str) -> None:
    os.write(2, f"error: {line}\n".encode("utf-8", "backslashreplace"))
    os._exit(2)
