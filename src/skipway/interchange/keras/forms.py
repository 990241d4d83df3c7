"""The forms in which weights and whole models are exported for Keras."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from skipway.data.preprocessing import Preprocessing
from skipway.interchange.form import Arrays, Form
from skipway.interchange.keras import write_h5, write_zip
from skipway.interchange.keras.network import keras_network, keras_scheme
from skipway.interchange.keras.serialized import keras_3_config
from skipway.interchange.mapping.keys import Key
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle

_H5 = (".h5", ".hdf5")


def _write_weights(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001 (all forms are written alike)
    write_h5.write(to, arrays)


def _write_model(to: Path, model: Bundle, arrays: Arrays) -> None:
    network = keras_network(model.spec)
    assert network is not None  # or the form would have no names for it
    config = network.config(_model_name(model.spec))
    write_h5.write(to, arrays, config=config, preprocessing=_plain_rule(model.preprocessing))


def _write_keras_3(to: Path, model: Bundle, arrays: Arrays) -> None:
    network = keras_network(model.spec)
    assert network is not None
    config = keras_3_config(_model_name(model.spec), network.layers)
    write_zip.write(to, arrays, config, preprocessing=_plain_rule(model.preprocessing))


def _model_name(spec: Spec) -> str:
    return spec.name.replace(".", "_")


def _plain_rule(rule: Preprocessing) -> dict[str, Any]:
    """The preprocessing as plain values; none where it has a mean image, which is no plain value."""
    if rule.mean_image is not None:
        return {}
    return rule.to_dict()


def _in_order_of_depth(keys: list[Key], *, shortcut_first: bool) -> list[Key]:
    """Keys as Keras sorts layers, by their depth in the graph. Keras loads weights in this order.

    A unit's projection stands beside the unit's last convolution, and before it where the sum names it first.
    """
    ordered: list[Key] = []
    # Outside the stages there are two groups: what comes before them, and the classifier.
    for (stage, _), group in groupby(keys, key=lambda key: (key.stage, key.unit)):
        members = list(group)
        if stage:
            members = _sorted_unit(members, shortcut_first=shortcut_first)
        ordered += members
    return ordered


def _sorted_unit(unit: list[Key], *, shortcut_first: bool) -> list[Key]:
    """The keys of a unit by the numbers at the end of its layers' names; those of the projection at the last number."""
    last_number = max(_last_digit(key.layer) for key in unit)
    beside_last = -1 if shortcut_first else 1

    def depth(key: Key) -> tuple[int, bool, int]:
        is_norm = key.kind == "norm"
        if key.layer.startswith("shortcut"):
            return last_number, is_norm, beside_last
        return _last_digit(key.layer), is_norm, 0

    return sorted(unit, key=depth)


def _last_digit(name: str) -> int:
    """The digit at the end of a name, 0 where there is none."""
    character = name[-1]
    if not character.isdigit():
        return 0
    return int(character)


def _order_of_applications(spec: Spec, keys: list[Key]) -> list[Key]:  # noqa: ARG001
    return _in_order_of_depth(keys, shortcut_first=True)


def _order_of_branches(spec: Spec, keys: list[Key]) -> list[Key]:  # noqa: ARG001
    return _in_order_of_depth(keys, shortcut_first=False)


def _order_of_graph(spec: Spec, keys: list[Key]) -> list[Key]:
    network = keras_network(spec)
    assert network is not None  # or the form would have no names for it
    place_of: dict[str, int] = {}
    for number, layer in enumerate(network.layers):
        place_of[layer.name] = number

    def place(key: Key) -> int:
        module = key.name.rpartition(".")[0]
        home = network.homes[module]
        return place_of[home]

    return sorted(keys, key=place)


FORMS = (
    Form("keras", _H5, _write_weights, order=_order_of_applications),
    Form("keras_branches", _H5, _write_weights, order=_order_of_branches),
    Form("keras_model", _H5, _write_model, order=_order_of_graph, describes=keras_scheme),
    Form("keras_3_model", (".keras",), _write_keras_3, order=_order_of_graph, describes=keras_scheme),
)
