"""Names of a checkpoint's entries, as TensorFlow's optimizers and averages give them."""

from __future__ import annotations

import pytest

from skipway.interchange.tensorflow.names import Kind, Name, classified

NAMES = {"net/conv1/weights", "conv1/weights"}


@pytest.mark.parametrize(
    ("name", "kind", "variable", "suffix"),
    [
        ("net/conv1/weights", Kind.VARIABLE, "net/conv1/weights", ""),
        ("net/conv1/BatchNorm/moving_mean", Kind.VARIABLE, "net/conv1/BatchNorm/moving_mean", ""),
        ("net/conv1/weights/Momentum", Kind.SLOT, "net/conv1/weights", "Momentum"),
        ("net/conv1/weights/Adam_1", Kind.SLOT, "net/conv1/weights", "Adam_1"),
        ("net/conv1/weights/RMSProp", Kind.SLOT, "net/conv1/weights", "RMSProp"),
        ("train/step/net/conv1/weights/RMSProp_1", Kind.SLOT, "net/conv1/weights", "RMSProp_1"),
        ("net/conv1/weights/ExponentialMovingAverage", Kind.AVERAGE, "net/conv1/weights", "ExponentialMovingAverage"),
        ("unknown/weights/Momentum", Kind.SLOT, "unknown/weights", "Momentum"),
        ("global_step", Kind.COUNTER, "", "global_step"),
        ("train/beta1_power", Kind.COUNTER, "", "train/beta1_power"),
        ("model/Momentum/kernel", Kind.VARIABLE, "model/Momentum/kernel", ""),
        (
            "model/fc/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE",
            Kind.SLOT,
            "model/fc/kernel/.ATTRIBUTES/VARIABLE_VALUE",
            "optimizer/m",
        ),
        (
            "model/fc/kernel/.ATTRIBUTES/VARIABLE_VALUE",
            Kind.VARIABLE,
            "model/fc/kernel/.ATTRIBUTES/VARIABLE_VALUE",
            "",
        ),
        ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", Kind.COUNTER, "", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"),
    ],
)
def test_what_a_name_stands_for(name: str, kind: Kind, variable: str, suffix: str) -> None:
    assert classified(name, NAMES) == Name(kind, variable, suffix)
