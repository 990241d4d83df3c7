"""The clock that both sides of a training comparison share: standard library only, since each has its own packages."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

_TELL_SECONDS = 10.0


class Stretch:
    """Times training steps: none of the warm-up, then `steps` of them.

    A step lasts from the end of the one before it to its own end, so fetching its pictures counts. The first step of
    an epoch is left out, since validation and saving lie before it on one side and not on the other.
    """

    def __init__(self, side: str, *, warmup: int, steps: int) -> None:
        self.side, self.warmup, self.steps = side, warmup, steps
        self.length = self.batch = self.per_epoch = 0
        self.done = self.measured = self.pictures = 0
        self.seconds = 0.0
        self._last = self._told = time.perf_counter()

    def plan(self, length: int, batch: int, per_epoch: int) -> None:
        """An epoch's pictures, the batch size, and an epoch's steps."""
        if per_epoch < 2:
            leave(f"{length} pictures are a single batch; give a folder with more than {batch}")
        self.length, self.batch, self.per_epoch = length, batch, per_epoch

    @property
    def full(self) -> bool:
        return self.measured >= self.steps

    def step(self) -> None:
        """To be called at each step's end."""
        now = time.perf_counter()
        position = self.done % self.per_epoch
        if self.done >= self.warmup and position and not self.full:
            self.seconds += now - self._last
            self.pictures += min(self.batch, self.length - position * self.batch)
            self.measured += 1
        self.done += 1
        if now - self._told > _TELL_SECONDS:
            self._told = now
            print(f"    step {self.done}, {self.measured} of {self.steps} measured", file=sys.stderr, flush=True)
        self._last = time.perf_counter()

    def tell(self, *, parameters: int, loss: float, threads: int, decoders: int, versions: dict[str, str]) -> None:
        """Print the one JSON line of this process; `decoders` are its processes that read picture files."""
        if not self.full:
            leave(f"training ended after {self.done} steps, before {self.steps} were measured; give fewer --steps")
        row = {
            "side": self.side,
            "pictures_per_second": self.pictures / self.seconds,
            "pictures": self.pictures,
            "seconds": self.seconds,
            "steps": self.measured,
            "batch_size": self.batch,
            "train_pictures": self.length,
            "trainable_parameters": parameters,
            "loss": loss,
            "threads": threads,
            "decoding_processes": decoders,
            "versions": versions,
        }
        print(json.dumps(row), flush=True)


def leave(message: str) -> None:
    """End the process over the user's input or machine: one line on stderr, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def side_options(description: str) -> argparse.ArgumentParser:
    """The options that each side understands."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder whose train part has a folder per class")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the first measured one")
    parser.add_argument("--steps", type=int, default=40, help="measured steps")
    return parser


def run_side(measure: Callable[[], None]) -> None:
    """Run one side; Ctrl-C is no traceback."""
    try:
        measure()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
