"""The inputs of the layers in a Keras configuration: which layers each use of a layer takes its values from.

Keras 1 and 2 name a value as `[layer, node, tensor]`, Keras 3 as a symbolic tensor with a history. Both may stand in
lists and dictionaries of any shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from skipway.errors import ModelFileError

MAX_DEPTH = 24  # of nested models, and of lists within one call
_CONSTANT = "_CONSTANT_VALUE"  # Keras 2 writes it in place of a layer's name where an argument is a constant


@dataclass(frozen=True)
class Call:
    """One use of a layer.

    - `inputs`: the layers whose values it takes, in order.
    - `keywords`: its other arguments, by name.
    """

    inputs: tuple[str, ...]
    keywords: Mapping[str, Any]


def refuse(reason: str) -> NoReturn:
    """Raise ModelFileError for a damaged configuration. The message names no file."""
    raise ModelFileError(f"its network configuration is damaged: {reason}; save or copy it again")


def as_object(value: Any) -> dict[str, Any]:
    """A JSON object as it is. Raises ModelFileError for any other value."""
    if not isinstance(value, dict):
        refuse(f"a {type(value).__name__} stands where an object should")
    return value


def calls_of(entry: dict[str, Any], name: str, known: set[str], prefix: str) -> list[Call]:
    """The uses of the layer `name` that `entry` describes.

    `known` are the layers of its model; `prefix` goes before the names of the inputs. Raises ModelFileError where the
    layer takes something that is not among `known`.
    """
    shown = name[:50]
    nodes = entry.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        refuse(f"the layer {shown!r} has no list of inputs")
    calls = []
    for node in nodes:
        keywords = _keywords(node)
        inputs = references(node, known)
        if not inputs and not isinstance(node, dict):
            refuse(f"the layer {shown!r} takes something that is not in the network")
        plain = {}
        for key, value in keywords.items():
            if value is not None and not references(value, known):
                plain[key] = value
        full_names = tuple(prefix + layer for layer in inputs)
        calls.append(Call(full_names, MappingProxyType(plain)))
    return calls


def _keywords(node: Any) -> dict[str, Any]:
    """The keyword arguments of one use of a layer: of Keras 3 an object's `kwargs`, of Keras 2 a fourth item."""
    if isinstance(node, dict):
        stated = node.get("kwargs", {})
        return as_object(stated)
    if not isinstance(node, list):
        return {}
    inputs = [node] if _is_reference(node) else node
    for item in inputs:
        if isinstance(item, list) and len(item) > 3:
            keywords = item[3]
            if isinstance(keywords, dict):
                return keywords
    return {}


def references(value: Any, known: set[str]) -> tuple[str, ...]:
    """The layers of `known` whose values a structure of lists and objects names, in order.

    Raises ModelFileError where a Keras 3 tensor is from another layer, or where the structure is nested too deep.
    """
    return tuple(_walk(value, known, 0))


def _walk(value: Any, known: set[str], depth: int) -> Iterator[str]:
    """The layers that a structure names, `depth` levels below the start."""
    if depth > MAX_DEPTH:
        refuse(f"the inputs of a layer are nested more than {MAX_DEPTH} deep")
    items: list[Any] = []
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield _history(value, known)
            return
        items = list(value.values())
    elif isinstance(value, list):
        items = value
        first = value[0] if _is_reference(value) else None
        if first in known:
            yield first
            items = value[3:]
        if first == _CONSTANT:
            items = value[2:]
    for item in items:
        yield from _walk(item, known, depth + 1)


def _history(tensor: dict[str, Any], known: set[str]) -> str:
    """The layer that computes a symbolic tensor of Keras 3."""
    config = as_object(tensor.get("config"))
    history = config.get("keras_history")
    layer = None
    if isinstance(history, list) and history:
        layer = history[0]
    if not isinstance(layer, str) or layer not in known:
        refuse("a layer takes something that is not in the network")
    return layer


def _is_reference(value: list[Any]) -> bool:
    """Whether a list names a value as Keras 1 and 2 do: `[layer, node, tensor]`, with keyword arguments or without."""
    if len(value) not in {3, 4}:
        return False
    layer, node = value[:2]
    return isinstance(layer, str) and type(node) is int
