"""Which network a file holds: every scheme is tried, and the one that explains the most arrays is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from skipway.errors import ModelFileError
from skipway.interchange.mapping import alexnet_names as alexnet
from skipway.interchange.mapping import resnet_names as resnet
from skipway.interchange.mapping.alexnet_names import infer_alexnet
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.mapping.shapes import infer_stack
from skipway.interchange.source import Array, Source
from skipway.interchange.tensorflow import graph as tf_graph
from skipway.interchange.tensorflow.frozen import variables
from skipway.interchange.tensorflow.names import OBJECT, Kind, classified
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.reporting import counted

# A scheme, and the rows whose layout it is. Names alone cannot tell two layouts of one scheme apart: the first that
# explains as much as any other is taken, and `--model` decides otherwise.
CANDIDATES: tuple[tuple[Scheme, str], ...] = (
    *((scheme, "resnet_v1_50.torchvision") for scheme in resnet.TORCH),
    *((scheme, "resnet_v1_20.cifar") for scheme in (resnet.CIFAR_TORCH, *resnet.TORCH)),
    (resnet.HUGGING_FACE, "resnet_v1_50.torchvision"),
    (resnet.TIMM_V2, "resnet_v2_50.timm"),
    (resnet.SLIM, "resnet_v1_50.slim"),
    (resnet.SLIM, "resnet_v2_50.slim"),
    (resnet.KERAS, "resnet_v1_50.keras"),
    (resnet.KERAS, "resnet_v2_50.keras"),
    (resnet.CAFFE, "resnet_v1_50.original"),
    (resnet.CAFFE, "resnet_v1_101.original"),
    (resnet.CAFFE, "resnet_v1_152.original"),
    (alexnet.TORCHVISION, "alexnet.owt"),
    (alexnet.CAFFE, "alexnet.caffe"),
    (alexnet.CAFFE, "alexnet.caffenet"),
    (alexnet.NPY, "alexnet.caffe"),
    (alexnet.NPY, "alexnet.caffenet"),
)

_HIDDEN = ("fc6", "fc7")
_CLASSIFIER = "predictions"  # of the networks of Keras's applications
_MOST_CANDIDATES = 60  # of classifiers: a file of a thousand matrices is none of these networks


@dataclass(frozen=True)
class Match:
    """A network, where each of its tensors lies, and which of the file's arrays nobody took."""

    spec: Spec
    scheme: str
    places: Mapping[str, Place | None]
    left: tuple[str, ...]
    missing: tuple[str, ...]


def network_arrays(source: Source, average: str = "raw") -> dict[str, Array]:
    """A file's arrays without what training keeps beside the weights, and without the scope around them all.

    `average="ema"` takes TensorFlow's moving averages in place of the variables that have one. Raises ModelFileError
    where the file has no averages.
    """
    arrays = variables(source) if source.format == tf_graph.FORMAT else dict(source.arrays)
    averaged = source.notes.get("average") == "ema"
    if source.format.startswith("TensorFlow"):
        _check_named(source, arrays)
        kinds = {name: classified(name, arrays) for name in arrays}
        averaged = any(one.kind is Kind.AVERAGE for one in kinds.values())
        chosen = {name: array for name, array in arrays.items() if kinds[name].kind is Kind.VARIABLE}
        if average == "ema":
            chosen |= {kinds[name].variable: arrays[name] for name in arrays if kinds[name].kind is Kind.AVERAGE}
        arrays = chosen
        scopes = {name.partition("/")[0] for name in arrays}
        if len(scopes) == 1 and all("/" in name for name in arrays):
            arrays = {name.partition("/")[2]: array for name, array in arrays.items()}
    elif source.format == "caffemodel":
        kinds_of = {name: layer.kind for layer in source.layers for name in layer.arrays}
        arrays = {name: _squeezed(array, kinds_of.get(name, "")) for name, array in arrays.items()}
    elif source.format.startswith("keras"):
        # Statistics of pictures, by which a layer prepares them: no tensors of the network.
        statistics = {name for layer in source.layers if layer.kind == "Normalization" for name in layer.arrays}
        arrays = {name: array for name, array in arrays.items() if name not in statistics}
        arrays = arrays if source.layers else _unnested(arrays)
    if average == "ema" and not averaged:
        some = ", ".join(list(arrays)[:3])
        raise ModelFileError(
            f"{source.path} holds no averaged weights, but one set of {counted(len(arrays), 'array')} ({some}, ...); "
            "leave out --average ema"
        )
    return arrays


def _check_named(source: Source, arrays: Mapping[str, Array]) -> None:
    """Raises ModelFileError for a checkpoint whose names are the paths by which Keras's objects reach a variable."""
    if not any(name.endswith(OBJECT) for name in arrays):
        return
    saved = (source.path.parent.parent / "saved_model.pb").is_file() and source.path.parent.name == "variables"
    told = "holds the weights of a SavedModel" if saved else "is an object checkpoint of Keras"
    raise ModelFileError(
        f"{source.path} {told}, which numbers its layers instead of naming them; load it in TensorFlow and save "
        'the whole model with model.save("FILE.h5") or model.save("FILE.keras")'
    )


def _unnested(arrays: dict[str, Array]) -> dict[str, Array]:
    """The names within a model that was put into another one: `resnet50/conv1_conv/kernel` beside a `dense/kernel`,
    which then is its classifier. As they are where that makes no network."""
    outer = {name.partition("/")[0] for name in arrays if name.count("/") > 1}
    others = {name.rpartition("/")[0] for name in arrays if name.count("/") == 1}
    if len(outer) != 1 or len(others) > 1:
        return arrays
    prefix = f"{outer.pop()}/"
    bare = {name.removeprefix(prefix): array for name, array in arrays.items()}
    classifier = f"{others.pop()}/" if others else ""
    renamed = {
        f"{_CLASSIFIER}/{name.removeprefix(classifier)}" if classifier and name.startswith(classifier) else name: array
        for name, array in bare.items()
    }
    for names in (bare, renamed):
        match = best({name: array.shape for name, array in names.items()}) if len(names) == len(arrays) else None
        if match is not None and not match.left and not match.missing:
            return names
    return arrays


def _squeezed(array: Array, kind: str) -> Array:
    """A blob of Caffe before 2015, (1, 1, N, K) or (1, 1, 1, N), as the matrix or vector that it is."""
    matrix = kind == "InnerProduct" and array.name.endswith("/0")
    if kind == "Convolution" and array.name.endswith("/0"):
        return array
    if len(array.shape) != 4 or array.shape[: 2 if matrix else 3] != (1, 1, 1)[: 2 if matrix else 3]:
        return array
    shape = array.shape[2:] if matrix else array.shape[3:]
    return Array(array.name, shape, array.dtype, lambda: array.read().reshape(shape))


def matches(shapes: Mapping[str, tuple[int, ...]], rows: frozenset[str] = frozenset()) -> Iterator[Match]:
    """Every reading of a file's names and shapes; `rows`, where there are any, are the only ones that count."""
    for scheme, base in (*CANDIDATES, *_classifier_candidates(shapes)):
        row = find_spec(base)
        spec: Spec | None = None
        if isinstance(row, StackSpec):
            spec = infer_stack(shapes, scheme, row)
        elif isinstance(row, AlexNetSpec):
            spec = infer_alexnet(shapes, scheme, row)
        if spec is None or (rows and spec.name not in rows):
            continue
        if rows or not _odd_stem(spec, scheme, row):
            yield _match(spec, scheme, shapes)


def _odd_stem(spec: Spec, scheme: Scheme, row: Spec) -> bool:
    """A stem of another kernel than the row's, under wordings that networks of both kinds have: only the kernel tells
    the ImageNet kind, 7x7 of stride 2 and a pool, from the CIFAR kind, 3x3."""
    if scheme not in resnet.TORCH or not isinstance(spec, StackSpec) or not isinstance(row, StackSpec):
        return False
    return (spec.stem.kernel == 3) != (row.stem.kernel == 3)


def best(shapes: Mapping[str, tuple[int, ...]], rows: frozenset[str] = frozenset()) -> Match | None:
    """The reading that leaves over and lacks the least, the first of equals; None where no scheme fits at all."""
    return min(matches(shapes, rows), key=lambda one: len(one.left) + len(one.missing), default=None)


def _classifier_candidates(shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[Scheme, str]]:
    """Schemes whose classifier is called as this file calls it: Caffe's ResNets and AlexNets, which are given another
    name when they are trained for other classes, caffe-tensorflow's, and Keras's older ResNets."""
    candidates: list[tuple[Scheme, str]] = []
    for name, shape in shapes.items():
        classifier, _, weight = name.rpartition("/")
        if len(shape) != 2:
            continue
        alexnets = () if classifier in _HIDDEN else ("alexnet.caffe", "alexnet.caffenet")
        if weight == "kernel":
            # Keras called its own fc1000 for any number of classes, the hand-signs code after them.
            signs = re.fullmatch(r"fc\d+", classifier) and classifier != "fc1000"
            row = "resnet_v1_50.signs" if signs else "resnet_v1_50.keras"
            candidates.append((resnet.keras_branches(classifier), row))
        elif weight == "0":
            candidates += [(resnet.caffe(classifier), f"resnet_v1_{depth}.original") for depth in (50, 101, 152)]
            candidates += [(alexnet.caffe(classifier), row) for row in alexnets]
        elif weight == "weights":
            candidates += [(alexnet.npy(classifier), row) for row in alexnets]
    return candidates[:_MOST_CANDIDATES]


def _match(spec: Spec, scheme: Scheme, shapes: Mapping[str, tuple[int, ...]]) -> Match:
    places = scheme.places(spec)
    taken = {place.source for place in places.values() if place}
    taken |= {place.divisor for place in places.values() if place and place.divisor}
    return Match(
        spec=spec,
        scheme=scheme.name,
        places=places,
        left=tuple(name for name in shapes if name not in taken),
        missing=tuple(
            key for key, place in places.items() if place and place.source not in shapes and not place.optional
        ),
    )
