"""First answer of a cold process: `skipway predict` beside a timm and a Keras script, one picture, ResNet-50.

Each answer is a new process, from its start to its end: imports, weights from a local file, one forward pass. Files
are in the page cache. `make peers` builds the environments; then

    .venv/bin/python benchmarks/compare_first_answer.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from interleaved import PEERS, BenchmarkError, Contestant, Race
from materials import DATA, OWN, Line, compare, model_file, options, weights_file
from standing import Ratio


def main() -> int:
    """Run the lines and print their tables; the exit code."""
    parser = options((__doc__ or "").split("\n\n")[0], turn_seconds=8.0)
    parser.add_argument("--picture", type=Path, help="a JPEG file; default: the first of the photos")
    return compare(parser.parse_args(), lines)


def lines(chosen: argparse.Namespace) -> Iterator[Line]:
    """timm's network, then Keras's, each beside our own of its layout."""
    picture = chosen.picture or next(iter(sorted((DATA / "photos").glob("*.JPEG"))), None)
    if picture is None or not picture.is_file():
        raise BenchmarkError(f"there is no picture {picture or DATA / 'photos'}; give --picture, a JPEG file")
    for library, layout, ending, script in (
        ("timm", "torchvision", ".pth", "cold_timm.py"),
        ("keras", "keras", ".h5", "cold_keras.py"),
    ):
        yield cold(library, getattr(chosen, library), f"resnet_v1_50.{layout}", (ending, script), picture)


def cold(library: str, python: Path, name: str, peer: tuple[str, str], picture: Path) -> Line:
    """`skipway predict` beside a library's script, on the same weights."""
    ending, script = peer

    def enter(race: Race, folder: Path) -> None:
        form = "torchvision" if ending == ".pth" else ""
        weights = weights_file(name, folder, ending, form=form)
        commands = {
            "skipway": [OWN.with_name("skipway"), "predict", model_file(name, folder), picture, "--json"],
            library: [python, PEERS / script, weights, picture],
        }
        for contestant, command in commands.items():
            settings = {"command": [str(part) for part in command], "warmup": 1}
            backend = {"KERAS_BACKEND": "tensorflow"}
            race.enter(Contestant(contestant, "cold.py", OWN, settings, unit="answers/s", environment=backend))

    title = f"first answer of a cold process, {name}, one picture"
    # Keras squashes by the nearest pixels, which skipway has no rule for: its answers are others.
    compared = ("skipway", "timm") if library == "timm" else ()
    return Line(library, title, ("own", library), enter, (Ratio("skipway", (library,)),), compared=compared)


if __name__ == "__main__":
    sys.exit(main())
