"""Training steps beside Keras (on TensorFlow, JAX and torch) and beside the reference loops of timm and torchvision.

All train in fp32 on a batch that lies in memory; ours gets it as uint8 and standardizes it in the step, the others get
it as floats. `make peers` builds the environments; then

    .venv/bin/python benchmarks/compare_training.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from interleaved import Contestant, Race
from materials import OWN, Line, compare, facts_of, options, ours, positive
from standing import Ratio

BACKENDS = ("tensorflow", "jax", "torch")
LIBRARIES = {"torchvision": ("resnet_v1_50.torchvision", "resnet50"), "timm": ("resnet_v2_50.timm", "resnetv2_50")}


def main() -> int:
    """Run the lines and print their tables; the exit code."""
    parser = options((__doc__ or "").split("\n\n")[0], turn_seconds=6.0)
    parser.add_argument("--batch-size", type=positive, default=0, help="default: 32 for the signs, 16 at 224 pixels")
    return compare(parser.parse_args(), lines)


def lines(chosen: argparse.Namespace) -> Iterator[Line]:
    """The hand signs, then ResNet-50 of both kinds at 224 pixels."""
    yield signs(chosen)
    for library in LIBRARIES:
        yield reference(chosen, library)


def signs(chosen: argparse.Namespace) -> Line:
    """The hand-signs ResNet50 beside Keras."""
    name, size = "resnet_v1_50.signs", chosen.batch_size or 32
    side, _ = facts_of(name)
    work = {"network": name, "batch_size": size, "side": side}
    peers = {f"keras {backend}": backend for backend in BACKENDS}

    def enter(race: Race, folder: Path) -> None:  # noqa: ARG001
        race.enter(ours("skipway", "ours_training.py", work | {"recipe": "signs"}))
        for peer, backend in peers.items():
            race.enter(
                Contestant(
                    peer,
                    "keras_training.py",
                    chosen.keras,
                    work,
                    amount=size,
                    environment={"KERAS_BACKEND": backend},
                )
            )

    title = f"training step of {name}, {side} pixels a side, batch {size}, fp32, Adam"
    ratios = tuple(Ratio("skipway", (peer,)) for peer in peers)
    return Line("signs", title, ("own", "keras"), enter, ratios, same=("skipway", *peers))


def reference(chosen: argparse.Namespace, library: str) -> Line:
    """ResNet-50 beside a library's loop, as it is and compiled."""
    (name, theirs), size = LIBRARIES[library], chosen.batch_size or 16
    side, _ = facts_of(name)
    work = {"batch_size": size, "side": side, "classes": 1000}
    peers = (f"{library} eager", f"{library} compiled")

    def enter(race: Race, folder: Path) -> None:  # noqa: ARG001
        race.enter(ours("skipway", "ours_training.py", work | {"network": name, "recipe": "reference"}))
        python = chosen.timm if library == "timm" else OWN
        for peer in peers:
            settings = work | {"library": library, "network": theirs, "compile": peer.endswith("compiled")}
            race.enter(Contestant(peer, "torch_training.py", python, settings, amount=size))

    needs = ("own", "timm") if library == "timm" else ("own",)
    title = f"training step of {name}, {side} pixels a side, batch {size}, fp32, SGD with momentum"
    ratios = tuple(Ratio("skipway", (peer,)) for peer in peers)
    return Line(library, title, needs, enter, ratios, same=("skipway", *peers))


if __name__ == "__main__":
    sys.exit(main())
