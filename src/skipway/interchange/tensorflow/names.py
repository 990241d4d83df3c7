"""What the entries of a TensorFlow checkpoint are, by their names: variables, or what training keeps beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


class EntryKind(Enum):
    """What an entry is.

    `VARIABLE` is a variable of the network, `SLOT` what an optimizer keeps for a variable, `AVERAGE` the moving average
    of a variable, and `COUNTER` a number of the training as a whole.
    """

    VARIABLE = "variable"
    SLOT = "slot"
    AVERAGE = "average"
    COUNTER = "counter"


@dataclass(frozen=True)
class Name:
    """The parts of an entry's name.

    `variable` is the name of the variable that the entry belongs to: its own name for a variable, empty for a counter.
    `suffix` is what was appended to that name.
    """

    kind: EntryKind
    variable: str
    suffix: str = ""


_AVERAGE = re.compile(r"(?P<variable>.+)/(?P<suffix>ExponentialMovingAverage)")
# Optimizers of TensorFlow 1 by their slots' names; a second slot of one optimizer has a number behind it.
_SLOT = re.compile(
    r"(?P<variable>.+)/(?P<suffix>(?:Momentum|Adam|AdamW|AMSGrad|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|LARSOptimizer|"
    r"AdaMax|Nadam|ProximalAdagrad|PowerSign|AddSign|momentum|adam_[mv]|gradient_squared_accumulator|"
    r"biased|local_step)(?:_\d+)?)"
)
# Checkpoints of objects (Keras models in TensorFlow 2) say so, and end every name alike.
OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECT_SLOT = re.compile(rf"(?P<variable>.+)/\.OPTIMIZER_SLOT/(?P<suffix>.+){re.escape(OBJECT)}")
_COUNTER = re.compile(
    r"(?:.*/)?(?:global_step|beta[12]_power(?:_\d+)?|learning_rate|save_counter|current_loss_scale|good_steps|"
    r"(?:optimizer|_optimizer)/(?:iter|beta_[12]|decay|learning_rate|momentum|rho))(?:/\.ATTRIBUTES/VARIABLE_VALUE)?"
)


def classified(name: str, names: Collection[str] = ()) -> Name:
    """Say what the name of an entry stands for.

    `names` are all names of the checkpoint. With them, a slot that its optimizer keeps under a scope of its own
    (`train/net/conv1/weights/Momentum`) is traced to its variable (`net/conv1/weights`).
    """
    counter = _COUNTER.fullmatch(name)
    if counter is not None:
        return Name(EntryKind.COUNTER, "", name)
    object_slot = _OBJECT_SLOT.fullmatch(name)
    if object_slot is not None:
        variable = object_slot["variable"] + OBJECT
        return Name(EntryKind.SLOT, variable, object_slot["suffix"])
    average = _AVERAGE.fullmatch(name)
    if average is not None:
        variable = _find_variable(average["variable"], names)
        return Name(EntryKind.AVERAGE, variable, average["suffix"])
    slot = _SLOT.fullmatch(name)
    if slot is not None:
        variable = _find_variable(slot["variable"], names)
        return Name(EntryKind.SLOT, variable, slot["suffix"])
    return Name(EntryKind.VARIABLE, name)


def _find_variable(variable: str, names: Collection[str]) -> str:
    """The longest end of a scoped name that is the name of a variable, or the scoped name itself where none is."""
    scopes = variable.split("/")
    for start in range(len(scopes)):
        candidate = "/".join(scopes[start:])
        if candidate in names:
            return candidate
    return variable
