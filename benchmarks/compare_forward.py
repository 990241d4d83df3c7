"""Forward passes beside the seed's code, Keras, timm, torchvision, ONNX Runtime, OpenVINO, OpenCV and tf.nn.

Each peer is raced by our network of the very same layout, so that a ratio never compares unlike work: TF-Slim's layout,
Keras's, timm's and torchvision's differ by up to a sixth in operations. `make peers` builds the environments; then

    .venv/bin/python benchmarks/compare_forward.py --network resnet_v2_50 --batch-size 8
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from interleaved import Contestant, Race
from materials import (
    OWN,
    Line,
    compare,
    facts_of,
    model_file,
    onnx_by_hand,
    options,
    ours,
    positive,
    weights_file,
)
from standing import Ratio

DEPTHS = {"resnet_v2_50": 50, "resnet_v2_152": 152}
ENGINES = ("eager", "compile", "onnxruntime", "openvino")
INT8 = ("onnxruntime", "openvino")


def main() -> int:
    """Run the lines and print their tables; the exit code."""
    parser = options((__doc__ or "").split("\n\n")[0], turn_seconds=2.0)
    parser.add_argument("--network", choices=[*DEPTHS, "alexnet"], default="resnet_v2_50", help="what runs forward")
    parser.add_argument("--batch-size", type=positive, default=8, help="pictures in a batch")
    parser.add_argument("--engine", choices=["auto", *ENGINES], default="auto", help="ours; auto measures them all")
    return compare(parser.parse_args(), lines)


def lines(chosen: argparse.Namespace) -> Iterator[Line]:
    """The races of one network at one batch size."""
    if chosen.network == "alexnet":
        yield alexnet(chosen)
        return
    # The engine that measurement picks in the first line serves in the others, which it need not be picked for again.
    picked = {"engine": chosen.engine}
    depth = DEPTHS[chosen.network]
    yield slim(chosen, picked)
    yield keras(chosen, picked)
    for library, layout, theirs in (
        ("timm", f"resnet_v2_{depth}.timm", f"resnetv2_{depth}"),
        ("torchvision", f"resnet_v1_{depth}.torchvision", f"resnet{depth}"),
    ):
        yield torch_library(chosen, picked, library, layout, theirs)


def own_contestants(race: Race, work: dict[str, Any], engine: str) -> str:
    """Enter the engine that is asked for or that measurement picks, then all others; the first one's name."""
    picked: str = race.enter(ours("skipway", "ours_forward.py", work | {"engine": engine})).facts["engine"]
    for other in ENGINES:
        if other != picked:
            race.enter(ours(f"skipway {other}", "ours_forward.py", work | {"engine": other}))
    return picked


def work_of(name: str, folder: Path, batch_size: int) -> dict[str, Any]:
    """Settings of our side."""
    side, _ = facts_of(name)
    return {"model": str(model_file(name, folder)), "batch_size": batch_size, "side": side}


def runtimes(race: Race, name: str, folder: Path, work: dict[str, Any]) -> None:
    """Enter ONNX Runtime and OpenVINO on a file exported by hand."""
    file = onnx_by_hand(name, folder, work["batch_size"])
    for library in ("onnxruntime", "openvino"):
        settings = work | {"model": str(file), "library": library}
        race.enter(ours(library, "onnx_forward.py", settings))


def slim(chosen: argparse.Namespace, picked: dict[str, str]) -> Line:
    """TF-Slim's layout: the seed's code, the runtimes, int8, the peak."""
    name, size = f"{chosen.network}.slim", chosen.batch_size
    _, gflop = facts_of(name)

    def enter(race: Race, folder: Path) -> None:
        work = work_of(name, folder, size)
        picked["engine"] = own_contestants(race, work, picked["engine"])
        for engine in INT8:
            settings = work | {"engine": engine, "precision": "int8"}
            race.enter(ours(f"skipway int8 {engine}", "ours_forward.py", settings))
        checkpoint = weights_file(name, folder, ".ckpt")
        settings = work | {"network": chosen.network, "weights": str(checkpoint)}
        race.enter(Contestant("tf_slim", "tensorflow_one.py", chosen.tensorflow, settings, amount=size))
        runtimes(race, name, folder, work)
        race.enter(Contestant("peak", "peak.py", OWN, unit="GFLOP/s"))

    fp32 = ("skipway", *(f"skipway {engine}" for engine in ENGINES), "tf_slim")
    ratios = (
        Ratio("skipway", ("tf_slim",)),
        Ratio("skipway", ("onnxruntime", "openvino")),
        Ratio("skipway", ("peak",), factor=gflop),
        *(Ratio(f"skipway int8 {engine}", ("onnxruntime",)) for engine in INT8),
    )
    title = f"forward {name}, batch {size}, fp32, {gflop:.2f} GFLOP a picture"
    compared = (*fp32, "onnxruntime", "openvino")
    return Line("slim", title, ("own", "tensorflow"), enter, ratios, same=fp32, compared=compared)


def keras(chosen: argparse.Namespace, picked: dict[str, str]) -> Line:
    """Keras's layout, on TensorFlow and on torch."""
    depth, size = DEPTHS[chosen.network], chosen.batch_size
    name = f"resnet_v2_{depth}.keras"
    backends = ("tensorflow", "torch")

    def enter(race: Race, folder: Path) -> None:
        work = work_of(name, folder, size)
        race.enter(ours("skipway", "ours_forward.py", work | picked))
        settings = work | {"network": f"ResNet{depth}V2", "weights": str(weights_file(name, folder, ".h5"))}
        for backend in backends:
            race.enter(
                Contestant(f"keras {backend}", "keras_forward.py", chosen.keras, settings, amount=size,
                           environment={"KERAS_BACKEND": backend})
            )  # fmt: skip

    peers = tuple(f"keras {backend}" for backend in backends)
    everyone = ("skipway", *peers)
    title = f"forward {name}, batch {size}, fp32, {facts_of(name)[1]:.2f} GFLOP a picture"
    ratios = tuple(Ratio("skipway", (peer,)) for peer in peers)
    return Line("keras", title, ("own", "keras"), enter, ratios, same=everyone, compared=everyone)


def torch_library(chosen: argparse.Namespace, picked: dict[str, str], library: str, name: str, theirs: str) -> Line:
    """timm's or torchvision's layout, as it is and compiled."""
    size = chosen.batch_size
    peers = (f"{library} eager", f"{library} compiled")

    def enter(race: Race, folder: Path) -> None:
        work = work_of(name, folder, size)
        race.enter(ours("skipway", "ours_forward.py", work | picked))
        settings = work | {"library": library, "network": theirs}
        settings["weights"] = str(weights_file(name, folder, ".pth", form=library))
        python = chosen.timm if library == "timm" else OWN
        for peer in peers:
            compiled = peer.endswith("compiled")
            race.enter(Contestant(peer, "torch_forward.py", python, settings | {"compile": compiled}, amount=size))

    needs = ("own", "timm") if library == "timm" else ("own",)
    title = f"forward {name}, batch {size}, fp32, {facts_of(name)[1]:.2f} GFLOP a picture"
    ratios = tuple(Ratio("skipway", (peer,)) for peer in peers)
    return Line(library, title, needs, enter, ratios, same=("skipway", *peers), compared=("skipway", *peers))


def alexnet(chosen: argparse.Namespace) -> Line:
    """BVLC's AlexNet; torchvision's, which has neither response normalization nor groups, stands beside it."""
    name, size = "alexnet.caffe", chosen.batch_size
    side, gflop = facts_of(name)

    def enter(race: Race, folder: Path) -> None:
        work = work_of(name, folder, size)
        own_contestants(race, work, chosen.engine)
        caffe = weights_file(name, folder, ".caffemodel")
        settings = work | {"library": "opencv", "weights": str(caffe), "prototxt": str(caffe.with_suffix(".prototxt"))}
        race.enter(Contestant("opencv", "alexnet_peers.py", chosen.tensorflow, settings, amount=size))
        settings = work | {"library": "tf_nn", "arrays": str(arrays_file(name, folder))}
        race.enter(Contestant("tf.nn", "alexnet_peers.py", chosen.tensorflow, settings, amount=size))
        runtimes(race, name, folder, work)
        settings = work | {"library": "torchvision", "network": "alexnet", "compile": True, "side": 224}
        race.enter(Contestant("torchvision compiled (lighter)", "torch_forward.py", OWN, settings, amount=size))
        race.enter(Contestant("peak", "peak.py", OWN, unit="GFLOP/s"))

    own = ("skipway", *(f"skipway {engine}" for engine in ENGINES))
    ratios = (
        Ratio("skipway", ("opencv",)),
        Ratio("skipway", ("tf.nn",)),
        Ratio("skipway", ("torchvision compiled (lighter)",)),
        Ratio("skipway", ("onnxruntime", "openvino")),
        Ratio("skipway", ("peak",), factor=gflop),
    )
    title = f"forward {name}, {side} pixels a side, batch {size}, fp32, {gflop:.2f} GFLOP a picture"
    compared = (*own, "opencv", "tf.nn", "onnxruntime", "openvino")
    line = Line("alexnet", title, ("own", "tensorflow"), enter, ratios, same=(*own, "tf.nn"))
    return replace(line, compared=compared)


def arrays_file(name: str, folder: Path) -> Path:
    """The weights by our own names, for tf.nn."""
    import numpy as np

    from skipway.weights.bundle import load_bundle

    to = folder / f"{name}-own.npz"
    tensors = load_bundle(model_file(name, folder)).tensors
    np.savez(to, **{key: value.numpy() for key, value in tensors.items()})
    return to


if __name__ == "__main__":
    sys.exit(main())
