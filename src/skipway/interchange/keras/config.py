"""The configuration that Keras stores with a model, as layers. Nothing is instantiated, no code of a Lambda is decoded.

The layers of a nested model follow it, named `<model>/<layer>`; its own `outputs` name those of them that it gives, and
its input layers take what it takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NoReturn

from skipway.errors import ModelFileError
from skipway.interchange.containers.hdf5_texts import TEXT_LIMIT
from skipway.interchange.keras.names import group_name
from skipway.interchange.source import Layer
from skipway.reporting import agreeing, counted

_CONTAINERS = {"Functional", "Model", "Sequential"}
_NORMS = {"BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"}
_MAX_DEPTH = 24  # of nested models, and of lists within one call
_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Described:
    """One layer of a configuration: `layer` without its arrays, and its group in the `layers/...` form of weights."""

    layer: Layer
    group: str
    nested: bool = False


@dataclass(frozen=True)
class Model:
    """A configuration as read: its name and its layers, each nested model before its own layers."""

    name: str
    kind: str
    layers: tuple[Described, ...]
    outputs: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class _Scope:
    """Where a model's layers are described: prefix of names, group, what it takes, whether it is called in training."""

    prefix: str = ""
    group: str = ""
    inputs: tuple[str, ...] = ()
    live: bool = False
    depth: int = 0


@dataclass(frozen=True)
class _Call:
    """One use of a layer: the tensors that it takes, by layer, and its other arguments."""

    inputs: tuple[str, ...]
    keywords: Mapping[str, Any]


def parse_config(text: str) -> Model:
    """Read a model's configuration. Raises ModelFileError, whose message the caller completes with the file's path."""
    if len(text) > TEXT_LIMIT:
        _fail(f"it has more than {TEXT_LIMIT} characters")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        _fail(f"it is not JSON ({type(error).__name__}: {str(error)[:100]})")
    described: list[Described] = []
    outputs = _describe(_mapping(config), _Scope(), described)
    names = [entry.layer.name for entry in described]
    if len(set(names)) != len(names):
        _fail("two layers have one name")
    kind = str(config.get("class_name", ""))
    inner = config.get("config")
    name = str(inner.get("name", "")) if isinstance(inner, dict) else ""
    return Model(name, kind, tuple(described), outputs, _warnings(described), _notes(described))


def _fail(told: str) -> NoReturn:
    raise ModelFileError(f"its network configuration is damaged: {told}; save or copy it again")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _fail(f"a {type(value).__name__} stands where an object should")
    return value


def _entries(config: Any) -> list[dict[str, Any]]:
    layers = (
        config.get("layers") if isinstance(config, dict) else config
    )  # a bare list in Sequential before Keras 2.2.3
    if not isinstance(layers, list):
        _fail("it lists no layers")
    return [_mapping(entry) for entry in layers]


def _describe(model: dict[str, Any], scope: _Scope, into: list[Described]) -> tuple[str, ...]:
    """Append the layers of a model and give the names of those that it outputs."""
    kind, config = str(model.get("class_name", "")), model.get("config")
    if scope.depth > _MAX_DEPTH:
        _fail(f"models are nested more than {_MAX_DEPTH} deep")
    entries = _entries(config)
    names = [_name(entry) for entry in entries]
    known = set(names)
    sequential = kind == "Sequential" or not isinstance(config, dict)
    used: dict[str, int] = {}
    taken = {} if sequential else _input_layers(_mapping(config), scope, known)
    previous = scope.inputs
    for entry, name in zip(entries, names, strict=True):
        calls = [_Call(previous, {})] if sequential else _calls(entry, known, scope.prefix)
        if name in taken and not calls:
            calls = [_Call(taken[name], {})]
        group = f"{scope.group}layers/{_group(entry, used)}"
        full = scope.prefix + name
        _append(entry, full, group, calls, scope, into)
        previous = (full,)
    if sequential:
        return previous
    references = _references(_mapping(config).get("output_layers", []), known)
    return tuple(scope.prefix + name for name in references)


def _append(
    entry: dict[str, Any], full: str, group: str, calls: list[_Call], scope: _Scope, into: list[Described]
) -> None:
    kind, config = str(entry.get("class_name", "")), entry.get("config")
    live = scope.live or any(call.keywords.get("training") in (True, 1) for call in calls)
    inputs = calls[0].inputs if calls else ()
    if kind in _CONTAINERS and isinstance(config, dict | list):
        place = len(into)
        kept = {key: value for key, value in config.items() if key != "layers"} if isinstance(config, dict) else {}
        below = _Scope(f"{full}/", f"{group}/", inputs, live, scope.depth + 1)
        into.append(
            Described(Layer(full, kind, inputs, fields=_fields(kind, kept, calls, live=False)), group, nested=True)
        )
        outputs = _describe(entry, below, into)
        into[place] = replace(into[place], layer=replace(into[place].layer, outputs=outputs))
        return
    fields = _fields(kind, _mapping(config if config is not None else {}), calls, live=live)
    into.append(Described(Layer(full, kind, inputs, fields=fields), group))


def _fields(kind: str, config: Mapping[str, Any], calls: list[_Call], *, live: bool) -> Mapping[str, Any]:
    fields = dict(config)
    if kind == "Lambda":
        # Marshalled bytecode of whoever wrote the file; a plain name is of use to a reader, bytecode is not.
        function = fields.pop("function", None)
        fields["function"] = (
            function if isinstance(function, str) and fields.get("function_type") == "function" else None
        )
    if kind in _NORMS and (live or config.get("mode") == 2):  # mode 2 of Keras 1 never used its statistics
        fields["live"] = True
    keywords = dict(calls[0].keywords) if calls else {}
    if keywords:
        fields["call"] = keywords
    if len(calls) > 1:
        fields["calls"] = tuple(call.inputs for call in calls)
    return MappingProxyType(fields)


def _name(entry: dict[str, Any]) -> str:
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str) or not name:
        _fail(f"a layer of kind {str(entry.get('class_name'))[:50]!r} has no name")
    return name


def _group(entry: dict[str, Any], used: dict[str, int]) -> str:
    """The group of a layer's weights: its class, numbered where there are several. Operations have none."""
    if ".ops." in str(entry.get("module", "")):
        return ""
    base = group_name(str(entry.get("class_name", "")))
    used[base] = number = used.get(base, -1) + 1
    return f"{base}_{number}" if number else base


def _input_layers(config: dict[str, Any], scope: _Scope, known: set[str]) -> dict[str, tuple[str, ...]]:
    """What the input layers of a nested model take: its own inputs, in their order."""
    listed = _references(config.get("input_layers", []), known)
    return {name: (given,) for name, given in zip(listed, scope.inputs, strict=False)}


def _calls(entry: dict[str, Any], known: set[str], prefix: str) -> list[_Call]:
    nodes = entry.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        _fail(f"the layer {_name(entry)[:50]!r} has no list of inputs")
    calls = []
    for node in nodes:
        keywords: dict[str, Any] = {}
        if isinstance(node, dict):
            keywords = _mapping(node.get("kwargs", {}))
        elif isinstance(node, list):
            pairs = [node] if _is_reference(node) else [pair for pair in node if isinstance(pair, list)]
            keywords = next((pair[3] for pair in pairs if len(pair) > 3 and isinstance(pair[3], dict)), {})
        inputs = _references(node, known)
        if not inputs and not isinstance(node, dict):
            _fail(f"the layer {_name(entry)[:50]!r} takes something that is not in the network")
        plain = {key: value for key, value in keywords.items() if value is not None and not _references(value, known)}
        calls.append(_Call(tuple(prefix + name for name in inputs), MappingProxyType(plain)))
    return calls


def _is_reference(value: list[Any]) -> bool:
    numbers = value[1:3]
    return len(value) in {3, 4} and isinstance(value[0], str) and len(numbers) == 2 and type(numbers[0]) is int


def _references(value: Any, known: set[str]) -> tuple[str, ...]:
    """The layers whose outputs a structure names, in order: `[name, node, tensor]` or a Keras 3 tensor."""
    return tuple(_walk(value, known, 0))


def _walk(value: Any, known: set[str], depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        _fail(f"the inputs of a layer are nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            value = _mapping(value.get("config")).get("keras_history")
            if not isinstance(value, list) or not value or not isinstance(value[0], str) or value[0] not in known:
                _fail("a layer takes something that is not in the network")
            yield value[0]
            return
        for item in value.values():
            yield from _walk(item, known, depth + 1)
    elif isinstance(value, list):
        if _is_reference(value) and (value[0] in known or value[0] == _CONSTANT):
            if value[0] in known:
                yield value[0]
            value = value[2:] if value[0] == _CONSTANT else value[3:]
        for item in value:
            yield from _walk(item, known, depth + 1)


def _warnings(described: list[Described]) -> tuple[str, ...]:
    layers = [entry.layer for entry in described]
    lambdas = [layer.name for layer in layers if layer.kind == "Lambda"]
    live = [layer.name for layer in layers if "live" in layer.fields]
    shared = [layer.name for layer in layers if "calls" in layer.fields]
    warnings = []
    if lambdas:
        told, them = counted(len(lambdas), "Lambda layer"), agreeing(len(lambdas), "it", "them")
        warnings.append(f"{told} ({_some(lambdas)}): the code in {them} is not run")
    if live:
        told, use = counted(len(live), "batch norm layer"), agreeing(len(live), "uses", "use")
        warnings.append(f"{told} ({_some(live)}) {use} the statistics of the batch, also in evaluation")
    if shared:
        told, are = counted(len(shared), "layer"), agreeing(len(shared), "is", "are")
        warnings.append(f"{told} ({_some(shared)}) {are} applied more than once")
    return tuple(warnings)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _notes(described: list[Described]) -> Mapping[str, Any]:
    formats = set()
    for entry in described:
        stated = entry.layer.fields.get("data_format") or entry.layer.fields.get("dim_ordering")
        if isinstance(stated, str):
            formats.add({"tf": "channels_last", "th": "channels_first"}.get(stated, stated))
    if not formats:
        return MappingProxyType({})
    return MappingProxyType({"data_format": formats.pop() if len(formats) == 1 else "mixed"})
