"""The configuration that Keras stores with a model, as layers. Nothing is instantiated, no code of a Lambda is decoded.

The layers of a nested model follow it, named `<model>/<layer>`. Its own `outputs` name the layers whose values it
gives. Its input layers take what it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from skipway.interchange.containers.hdf5_texts import TEXT_LIMIT
from skipway.interchange.keras.config_inputs import MAX_DEPTH, Call, as_object, calls_of, references, refuse
from skipway.interchange.keras.names import group_name
from skipway.interchange.source import Layer
from skipway.reporting import agreeing, counted

_CONTAINERS = {"Functional", "Model", "Sequential"}
_NORMS = {"BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"}
_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first"}  # Keras 1's words and those of later versions
_SHOWN = 3  # names in a warning


@dataclass(frozen=True)
class Described:
    """One layer of a configuration.

    - `layer`: the layer without its arrays.
    - `group`: where its weights are in the `layers/...` form of weights. "" where it has none.
    - `nested`: whether it is a model, whose layers follow it.
    """

    layer: Layer
    group: str
    nested: bool = False


@dataclass(frozen=True)
class Model:
    """A configuration as read.

    - `name`: the name of the model.
    - `kind`: its Keras class.
    - `layers`: its layers, each nested model before its own layers.
    - `outputs`: the names of the layers whose values it gives.
    - `warnings`: what a user should know.
    - `notes`: what else the configuration says.
    """

    name: str
    kind: str
    layers: tuple[Described, ...]
    outputs: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class _Scope:
    """Where a model's layers are described.

    - `prefix`: what goes before the names of its layers.
    - `group`: what goes before the groups of its layers.
    - `inputs`: the layers whose values the model takes.
    - `live`: whether the model is called as in training.
    - `depth`: how many models it is nested in.
    """

    prefix: str = ""
    group: str = ""
    inputs: tuple[str, ...] = ()
    live: bool = False
    depth: int = 0


def parse_config(text: str) -> Model:
    """Read the JSON configuration of a model.

    Raises ModelFileError where it is damaged. The message names no file: the caller completes it.
    """
    if len(text) > TEXT_LIMIT:
        refuse(f"it has more than {TEXT_LIMIT} characters")
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100]
        refuse(f"it is not JSON ({type(error).__name__}: {reason})")
    config = as_object(loaded)
    described: list[Described] = []
    outputs = _describe(config, _Scope(), described)
    names = {entry.layer.name for entry in described}
    if len(names) != len(described):
        refuse("two layers have one name")
    kind = str(config.get("class_name", ""))
    inner = config.get("config")
    name = ""
    if isinstance(inner, dict):
        name = str(inner.get("name", ""))
    return Model(name, kind, tuple(described), outputs, _warnings(described), _notes(described))


def _entries(config: Any) -> list[dict[str, Any]]:
    """The descriptions of a model's layers."""
    layers = config  # a bare list in Sequential before Keras 2.2.3
    if isinstance(config, dict):
        layers = config.get("layers")
    if not isinstance(layers, list):
        refuse("it lists no layers")
    return [as_object(entry) for entry in layers]


def _describe(model: dict[str, Any], scope: _Scope, into: list[Described]) -> tuple[str, ...]:
    """Append the layers of a model to `into`. Gives the names of the layers whose values the model gives."""
    if scope.depth > MAX_DEPTH:
        refuse(f"models are nested more than {MAX_DEPTH} deep")
    config = model.get("config")
    kind = str(model.get("class_name", ""))
    entries = _entries(config)
    if kind == "Sequential" or not isinstance(config, dict):
        return _describe_sequence(entries, scope, into)
    return _describe_graph(config, entries, scope, into)


def _describe_sequence(entries: list[dict[str, Any]], scope: _Scope, into: list[Described]) -> tuple[str, ...]:
    """Append the layers of a Sequential model, each of which takes the value of the layer before it."""
    names = [_name(entry) for entry in entries]
    groups = _groups(entries, scope)
    previous = scope.inputs
    for entry, name, group in zip(entries, names, groups, strict=True):
        full = scope.prefix + name
        call = Call(previous, {})
        _append(entry, full, group, [call], scope, into)
        previous = (full,)
    return previous


def _describe_graph(
    config: dict[str, Any], entries: list[dict[str, Any]], scope: _Scope, into: list[Described]
) -> tuple[str, ...]:
    """Append the layers of a model that states the inputs of each layer."""
    names = [_name(entry) for entry in entries]
    groups = _groups(entries, scope)
    known = set(names)
    # The input layers of a nested model take what the model takes.
    input_layers = references(config.get("input_layers", []), known)
    taken = dict(zip(input_layers, scope.inputs, strict=False))
    for entry, name, group in zip(entries, names, groups, strict=True):
        calls = calls_of(entry, name, known, scope.prefix)
        if name in taken and not calls:
            call = Call((taken[name],), {})
            calls = [call]
        full = scope.prefix + name
        _append(entry, full, group, calls, scope, into)
    output_layers = references(config.get("output_layers", []), known)
    return tuple(scope.prefix + name for name in output_layers)


def _append(
    entry: dict[str, Any], full: str, group: str, calls: list[Call], scope: _Scope, into: list[Described]
) -> None:
    """Append one layer, named `full`, and where it is a model its layers, too."""
    kind = str(entry.get("class_name", ""))
    config = entry.get("config")
    live = scope.live
    for call in calls:
        if call.keywords.get("training") in (True, 1):
            live = True
    inputs = calls[0].inputs if calls else ()
    if kind in _CONTAINERS and isinstance(config, dict | list):
        fields = _fields(kind, _without_layers(config), calls, live=False)
        model = Layer(full, kind, inputs, fields=fields)
        below = _Scope(f"{full}/", f"{group}/", inputs, live, scope.depth + 1)
        _append_model(entry, model, group, below, into)
        return
    stated = {} if config is None else as_object(config)
    fields = _fields(kind, stated, calls, live=live)
    layer = Layer(full, kind, inputs, fields=fields)
    into.append(Described(layer, group))


def _append_model(entry: dict[str, Any], model: Layer, group: str, below: _Scope, into: list[Described]) -> None:
    """Append a nested model and its layers, which are described in the scope `below`."""
    place = len(into)
    into.append(Described(model, group, nested=True))
    outputs = _describe(entry, below, into)
    # The model comes before its layers, and its outputs are known only after them.
    complete = replace(model, outputs=outputs)
    into[place] = Described(complete, group, nested=True)


def _without_layers(config: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """The configuration of a model without its layers. A list is nothing but layers."""
    if isinstance(config, list):
        return {}
    return {key: value for key, value in config.items() if key != "layers"}


def _fields(kind: str, config: Mapping[str, Any], calls: list[Call], *, live: bool) -> Mapping[str, Any]:
    """The fields of a layer: its configuration, and what its uses add. `live` says that it is used as in training."""
    fields = dict(config)
    if kind == "Lambda":
        _drop_code(fields)
    never_used_statistics = config.get("mode") == 2  # mode 2 of Keras 1
    if kind in _NORMS and (live or never_used_statistics):
        fields["live"] = True
    if calls:
        keywords = dict(calls[0].keywords)
        if keywords:
            fields["call"] = keywords
    if len(calls) > 1:
        fields["calls"] = tuple(call.inputs for call in calls)
    return MappingProxyType(fields)


def _drop_code(fields: dict[str, Any]) -> None:
    """Keep the name of a Lambda's function, but not its bytecode: that is the code of whoever wrote the file."""
    function = fields.pop("function", None)
    named = fields.get("function_type") == "function"
    fields["function"] = None
    if named and isinstance(function, str):
        fields["function"] = function


def _name(entry: dict[str, Any]) -> str:
    """The name of a layer, beside its configuration or in it."""
    name = entry.get("name")
    config = entry.get("config")
    if not name and isinstance(config, dict):
        name = config.get("name")
    if not isinstance(name, str) or not name:
        kind = str(entry.get("class_name"))[:50]
        refuse(f"a layer of kind {kind!r} has no name")
    return name


def _groups(entries: list[dict[str, Any]], scope: _Scope) -> list[str]:
    """The groups of the layers' weights: the class, numbered where a model has several of it. Operations have none."""
    groups = []
    used: dict[str, int] = {}
    for entry in entries:
        module = str(entry.get("module", ""))
        group = ""
        if ".ops." not in module:
            base = group_name(str(entry.get("class_name", "")))
            number = used.get(base, 0)
            used[base] = number + 1
            group = f"{base}_{number}" if number else base
        groups.append(f"{scope.group}layers/{group}")
    return groups


def _warnings(described: list[Described]) -> tuple[str, ...]:
    """What a user should know of the layers: whatever cannot be followed as it is."""
    lambdas: list[str] = []
    live: list[str] = []
    shared: list[str] = []
    for entry in described:
        layer = entry.layer
        if layer.kind == "Lambda":
            lambdas.append(layer.name)
        if "live" in layer.fields:
            live.append(layer.name)
        if "calls" in layer.fields:
            shared.append(layer.name)
    warnings = []
    if lambdas:
        layers = counted(len(lambdas), "Lambda layer")
        them = agreeing(len(lambdas), "it", "them")
        warnings.append(f"{layers} ({_some(lambdas)}): the code in {them} is not run")
    if live:
        layers = counted(len(live), "batch norm layer")
        use = agreeing(len(live), "uses", "use")
        warnings.append(f"{layers} ({_some(live)}) {use} the statistics of the batch, also in evaluation")
    if shared:
        layers = counted(len(shared), "layer")
        are = agreeing(len(shared), "is", "are")
        warnings.append(f"{layers} ({_some(shared)}) {are} applied more than once")
    return tuple(warnings)


def _some(names: list[str]) -> str:
    """The first names of a list, for a message."""
    text = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        text += ", ..."
    return text


def _notes(described: list[Described]) -> Mapping[str, Any]:
    """What the layers say of the order of their axes: `data_format`, "mixed" where they differ."""
    formats = set()
    for entry in described:
        fields = entry.layer.fields
        stated = fields.get("data_format") or fields.get("dim_ordering")
        if isinstance(stated, str):
            data_format = _DATA_FORMATS.get(stated, stated)
            formats.add(data_format)
    if not formats:
        return MappingProxyType({})
    return MappingProxyType({"data_format": formats.pop() if len(formats) == 1 else "mixed"})
