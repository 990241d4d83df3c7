"""Training's input pipeline beside torchvision's and tf.data's, in pictures per second on one core.

Each reads JPEG files, cuts random resized crops of 224 pixels (8 to 100 % of the area, bilinear with antialiasing),
flips half of them, and hands over standardized fp32 batches. `make peers` builds the environments; then

    .venv/bin/python benchmarks/compare_input.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from interleaved import BenchmarkError, Contestant, Race
from materials import DATA, OWN, Line, compare, options, ours, positive
from standing import Ratio

COPIES = 8  # links to each picture, so that an epoch has some batches


def main() -> int:
    """Run the line and print its table; the exit code."""
    parser = options((__doc__ or "").split("\n\n")[0], turn_seconds=3.0)
    parser.add_argument("--data", type=Path, default=DATA / "photos", help="folder of JPEG files")
    parser.add_argument("--batch-size", type=positive, default=32, help="pictures in a batch")
    return compare(parser.parse_args(), lines)


def lines(chosen: argparse.Namespace) -> Iterator[Line]:
    """One line: everybody on one core."""
    files = sorted(file for file in chosen.data.glob("*") if file.suffix.lower() in {".jpg", ".jpeg"})
    if COPIES * len(files) < chosen.batch_size:
        raise BenchmarkError(f"{chosen.data} has {len(files)} JPEG files; give --data, a folder with more")
    work = {"batch_size": chosen.batch_size, "side": 224}
    decoders = {"torchvision, PIL": "pil", "torchvision, decode_jpeg": "torchvision"}

    def enter(race: Race, folder: Path) -> None:
        settings = work | {"data": str(class_folders(files, folder / "pictures", chosen.batch_size))}
        race.enter(ours("skipway", "ours_input.py", settings))
        for peer, decoder in decoders.items():
            told = settings | {"decoder": decoder}
            race.enter(Contestant(peer, "torch_input.py", OWN, told, amount=chosen.batch_size))
        race.enter(Contestant("tf.data", "tf_input.py", chosen.keras, settings, amount=chosen.batch_size))

    ratios = (*(Ratio("skipway", (peer,)) for peer in decoders), Ratio("skipway", ("tf.data",)))
    title = f"input pipeline, {len(files)} JPEG files, crops of 224 pixels, batch {chosen.batch_size}, one core"
    yield Line("input", title, ("own", "keras"), enter, ratios, threads=1)


def class_folders(files: list[Path], root: Path, batch_size: int) -> Path:
    """A folder for each picture with links to it; as many as fill whole batches, so that all epochs are alike."""
    count = COPIES * len(files) // batch_size * batch_size
    for number in range(count):
        file = files[number % len(files)]
        to = root / file.stem / f"{number}.jpg"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.symlink_to(file.resolve())
    return root


if __name__ == "__main__":
    sys.exit(main())
