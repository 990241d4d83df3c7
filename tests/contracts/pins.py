"""State-dict keys as they were pinned: model files that people keep are read by these names.

`keys.txt` has, for each row at full depth, the number of its keys and a digest of its `key shape` lines, and for one
tiny row a family the lines themselves. After a change that is meant, and that old files survive, write it anew with
`python -m tests.contracts.pins`; its diff in the review shows what moved.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from skipway.models.catalog import find_spec, list_models
from skipway.models.network import Network
from tests.contracts.tiny import tiny

FILE = Path(__file__).with_name("keys.txt")
REPIN = "if that is meant, and old model files can still be read, run `python -m tests.contracts.pins`"

# One of each family: between them every kind of layer and unit that the catalog has.
SHOWN = (
    "alexnet.caffe",
    "highway_mlp_10",
    "plain_mlp_10",
    "highway_19.cifar",
    "plain_20.cifar",
    "resnet_v1_50.original",
    "resnet_v2_50.slim",
)


def key_lines(network: Network) -> list[str]:
    """`key shape`, sorted: `logits.bias 10`, `stem.norm.num_batches_tracked scalar`."""
    shapes = {key: "x".join(map(str, value.shape)) or "scalar" for key, value in network.state_dict().items()}
    return sorted(f"{key} {shape}" for key, shape in shapes.items())


def pin(network: Network) -> str:
    """Number and digest of all keys and shapes."""
    lines = key_lines(network)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{len(lines)} {digest}"


def pinned() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Of the file: each row's pin, and the lines of the rows that are shown."""
    first, *rest = FILE.read_text().split("\n\n")
    pins = dict(line.split(" ", 1) for line in first.splitlines())
    shown = {title: lines for title, *lines in (part.strip().splitlines() for part in rest)}
    return pins, shown


def main() -> None:
    with torch.device("meta"):
        parts = ["\n".join(f"{name} {pin(find_spec(name).build())}" for name in list_models())]
        parts += ["\n".join((name, *key_lines(tiny(name).build()))) for name in SHOWN]
    FILE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
