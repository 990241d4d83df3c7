"""Names of a checkpoint's entries, as TensorFlow's optimizers and averages give them."""

from __future__ import annotations

import pytest

from skipway.interchange.tensorflow.names import EntryKind, Name, classified

NAMES = {"net/conv1/weights", "conv1/weights"}


@pytest.mark.parametrize(
    ("name", "kind", "variable", "suffix"),
    [
        ("net/conv1/weights", EntryKind.VARIABLE, "net/conv1/weights", ""),
        ("net/conv1/BatchNorm/moving_mean", EntryKind.VARIABLE, "net/conv1/BatchNorm/moving_mean", ""),
        ("net/conv1/weights/Momentum", EntryKind.SLOT, "net/conv1/weights", "Momentum"),
        ("net/conv1/weights/Adam_1", EntryKind.SLOT, "net/conv1/weights", "Adam_1"),
        ("net/conv1/weights/RMSProp", EntryKind.SLOT, "net/conv1/weights", "RMSProp"),
        ("train/step/net/conv1/weights/RMSProp_1", EntryKind.SLOT, "net/conv1/weights", "RMSProp_1"),
        (
            "net/conv1/weights/ExponentialMovingAverage",
            EntryKind.AVERAGE,
            "net/conv1/weights",
            "ExponentialMovingAverage",
        ),
        ("unknown/weights/Momentum", EntryKind.SLOT, "unknown/weights", "Momentum"),
        ("global_step", EntryKind.COUNTER, "", "global_step"),
        ("train/beta1_power", EntryKind.COUNTER, "", "train/beta1_power"),
        ("model/Momentum/kernel", EntryKind.VARIABLE, "model/Momentum/kernel", ""),
        (
            "model/fc/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE",
            EntryKind.SLOT,
            "model/fc/kernel/.ATTRIBUTES/VARIABLE_VALUE",
            "optimizer/m",
        ),
        (
            "model/fc/kernel/.ATTRIBUTES/VARIABLE_VALUE",
            EntryKind.VARIABLE,
            "model/fc/kernel/.ATTRIBUTES/VARIABLE_VALUE",
            "",
        ),
        ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", EntryKind.COUNTER, "", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"),
    ],
)
def test_what_a_name_stands_for(name: str, kind: EntryKind, variable: str, suffix: str) -> None:
    assert classified(name, NAMES) == Name(kind, variable, suffix)
