"""Which network a file holds: every scheme is tried, and the best is taken.

The best leaves over the fewest arrays of the file and lacks the fewest tensors of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.mapping import resnet_names as resnet
from skipway.interchange.mapping.alexnet_names import infer_alexnet
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.mapping.shapes import infer_stack
from skipway.interchange.mapping.table import candidates
from skipway.interchange.source import Array, WeightFile
from skipway.interchange.tensorflow import graph as tf_graph
from skipway.interchange.tensorflow.frozen import variables
from skipway.interchange.tensorflow.names import OBJECT, EntryKind, classified
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.reporting import counted

_CLASSIFIER = "predictions"  # the classifier's name in Keras's applications

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Match:
    """One reading of a file: its network, and where each of its tensors lies.

    `scheme` is the name of the scheme that the file's names follow. `left` are the arrays that no tensor comes from,
    `missing` the tensors that the file lacks.
    """

    spec: Spec
    scheme: str
    places: Mapping[str, Place | None]
    left: tuple[str, ...]
    missing: tuple[str, ...]


def network_arrays(source: WeightFile, average: str = "raw") -> dict[str, Array]:
    """A file's arrays without those that training keeps beside the weights, and without the scope around them all.

    `average="ema"` takes TensorFlow's moving averages in place of the variables that have one. Raises ModelFileError
    where the file has no averages.
    """
    if source.format == tf_graph.FORMAT:
        arrays = variables(source)
    else:
        arrays = dict(source.arrays)
    averaged = source.notes.get("average") == "ema"
    if source.framework == "tensorflow":
        _check_named(source, arrays)
        arrays, averaged = _network_variables(arrays, average)
        arrays = _without_scope(arrays)
    elif source.framework == "caffe":
        arrays = _squeezed(source, arrays)
    elif source.framework == "keras":
        arrays = _without_statistics(source, arrays)
        if not source.layers:
            arrays = _unnested(arrays)
    if average == "ema" and not averaged:
        names = list(arrays)
        some = ", ".join(names[:3])
        raise ModelFileError(
            f"{source.path} holds no averaged weights, but one set of {counted(len(arrays), 'array')} ({some}, ...); "
            "leave out --average ema"
        )
    return arrays


def _check_named(source: WeightFile, arrays: Mapping[str, Array]) -> None:
    """Raises ModelFileError for a checkpoint whose names are the paths by which Keras's objects reach a variable."""
    of_objects = [name for name in arrays if name.endswith(OBJECT)]
    if not of_objects:
        return
    folder = source.path.parent
    saved_model = folder.parent / "saved_model.pb"
    if folder.name == "variables" and saved_model.is_file():
        what = "holds the weights of a SavedModel"
    else:
        what = "is an object checkpoint of Keras"
    raise ModelFileError(
        f"{source.path} {what}, which numbers its layers instead of naming them; load it in TensorFlow and save "
        'the whole model with model.save("FILE.h5") or model.save("FILE.keras")'
    )


def _network_variables(arrays: Mapping[str, Array], average: str) -> tuple[dict[str, Array], bool]:
    """The variables of TensorFlow's network, and whether the file has averages of any of them.

    `average="ema"` takes the averages in place of their variables.
    """
    chosen: dict[str, Array] = {}
    averages: dict[str, Array] = {}
    for name, array in arrays.items():
        entry = classified(name, arrays)
        if entry.kind is EntryKind.VARIABLE:
            chosen[name] = array
        elif entry.kind is EntryKind.AVERAGE:
            averages[entry.variable] = array
    if average == "ema":
        chosen.update(averages)
    return chosen, bool(averages)


def _without_scope(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays without the first part of their names, where it is the same for all of them."""
    inner: dict[str, Array] = {}
    scopes = set()
    for name, array in arrays.items():
        scope, slash, rest = name.partition("/")
        if not slash:
            return arrays
        scopes.add(scope)
        inner[rest] = array
    if len(scopes) != 1:
        return arrays
    return inner


def _without_statistics(source: WeightFile, arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays without the statistics of pictures, by which a layer of Keras prepares them."""
    statistics: set[str] = set()
    for layer in source.layers:
        if layer.kind == "Normalization":
            statistics.update(layer.arrays)
    return {name: array for name, array in arrays.items() if name not in statistics}


def _unnested(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays of a model within another one, by their names in the inner model.

    `resnet50/conv1_conv/kernel` may stand beside a `dense/kernel`, which then is the classifier. The arrays stay as
    they are where they make no network so.
    """
    models: set[str] = set()  # the inner models
    others: set[str] = set()  # the outer model's own layers
    for name in arrays:
        parts = name.split("/")
        if len(parts) > 2:
            models.add(parts[0])
        elif len(parts) == 2:
            others.add(parts[0])
    if len(models) != 1 or len(others) > 1:
        return arrays
    prefix = f"{models.pop()}/"
    inner = {name.removeprefix(prefix): array for name, array in arrays.items()}
    candidates = [inner]
    if others:
        classifier = f"{others.pop()}/"
        renamed = {_classifier_name(name, classifier): array for name, array in inner.items()}
        candidates.append(renamed)
    for candidate in candidates:
        if len(candidate) == len(arrays) and _is_whole(candidate):
            return candidate
    return arrays


def _classifier_name(name: str, classifier: str) -> str:
    """The name of an array, under the name of Keras's classifier where it starts with `classifier`."""
    if not name.startswith(classifier):
        return name
    tensor = name.removeprefix(classifier)
    return f"{_CLASSIFIER}/{tensor}"


def _is_whole(arrays: Mapping[str, Array]) -> bool:
    """Whether the arrays are a network, with none left over and none missing."""
    shapes = {name: array.shape for name, array in arrays.items()}
    match = best(shapes)
    if match is None:
        return False
    unexplained = match.left + match.missing
    return not unexplained


def _squeezed(source: WeightFile, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Caffe's blobs in their shape of today: before 2015 matrices were (1, 1, N, K), and vectors (1, 1, 1, N)."""
    kinds: dict[str, str] = {}
    for layer in source.layers:
        for name in layer.arrays:
            kinds[name] = layer.kind
    squeezed = {}
    for name, array in arrays.items():
        kind = kinds.get(name, "")
        is_weight = array.name.endswith("/0")
        if is_weight and kind == "Convolution":
            squeezed[name] = array
        elif is_weight and kind == "InnerProduct":
            squeezed[name] = _last_axes(array, 2)
        else:
            squeezed[name] = _last_axes(array, 1)
    return squeezed


def _last_axes(array: Array, axes: int) -> Array:
    """An array of four axes without those before the last `axes`, if they have the length 1; any other as it is."""
    if len(array.shape) != 4:
        return array
    leading = 4 - axes
    shape = array.shape[leading:]
    dropped = array.shape[:leading]
    if set(dropped) != {1}:
        return array

    def read() -> np.ndarray:
        return array.read().reshape(shape)

    return Array(array.name, shape, array.dtype, read)


def matches(shapes: Shapes, rows: frozenset[str] = frozenset()) -> Iterator[Match]:
    """Every reading of a file's names and shapes; `rows`, where there are any, are the only networks that count."""
    for scheme, base in candidates(shapes):
        row = find_spec(base)
        spec: Spec | None = None
        if isinstance(row, StackSpec):
            spec = infer_stack(shapes, scheme, row)
        elif isinstance(row, AlexNetSpec):
            spec = infer_alexnet(shapes, scheme, row)
        if spec is None:
            continue
        if rows:
            wanted = spec.name in rows
        else:
            wanted = not _odd_stem(spec, scheme, row)
        if wanted:
            yield _match(spec, scheme, shapes)


def _odd_stem(spec: Spec, scheme: Scheme, row: Spec) -> bool:
    """Whether the stem is of the other kind than the row's, in a scheme that networks of both kinds have.

    Only the kernel shows the kind: ImageNet's is 7x7 of stride 2 with a pool, CIFAR's is 3x3.
    """
    if scheme not in resnet.TORCH:
        return False
    if not isinstance(spec, StackSpec) or not isinstance(row, StackSpec):
        return False
    small = spec.stem.kernel == 3
    row_is_small = row.stem.kernel == 3
    return small != row_is_small


def best(shapes: Shapes, rows: frozenset[str] = frozenset()) -> Match | None:
    """The reading with the fewest arrays left over and tensors missing, the first of equals; None where there is none.

    `rows`, where there are any, are the only networks that count.
    """
    found: Match | None = None
    fewest = 0
    for match in matches(shapes, rows):
        unexplained = len(match.left) + len(match.missing)
        if found is None or unexplained < fewest:
            found = match
            fewest = unexplained
    return found


def _match(spec: Spec, scheme: Scheme, shapes: Shapes) -> Match:
    """The reading of a file as the network `spec` with the names of `scheme`."""
    places = scheme.places(spec)
    taken: set[str] = set()
    missing: list[str] = []
    for key, place in places.items():
        if place is None:
            continue
        taken.add(place.source)
        if place.divisor:
            taken.add(place.divisor)
        if place.source not in shapes and not place.optional:
            missing.append(key)
    left = [name for name in shapes if name not in taken]
    return Match(spec=spec, scheme=scheme.name, places=places, left=tuple(left), missing=tuple(missing))
