"""What the entries of a TensorFlow checkpoint are, by their names: variables, or what training keeps beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an entry is: a `VARIABLE` of the network, an optimizer's `SLOT` or a moving `AVERAGE` of one, or a
    `COUNTER` of the training as a whole."""

    VARIABLE = "variable"
    SLOT = "slot"
    AVERAGE = "average"
    COUNTER = "counter"


@dataclass(frozen=True)
class Name:
    """An entry's name, taken apart: `variable` is the variable that it belongs to (itself for a variable, empty for a
    counter), `suffix` what was appended to that."""

    kind: Kind
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
    """What a name stands for. With all the checkpoint's `names`, a slot that its optimizer keeps under a scope of its
    own (`train/net/conv1/weights/Momentum`) is traced to its variable (`net/conv1/weights`)."""
    if _COUNTER.fullmatch(name):
        return Name(Kind.COUNTER, "", name)
    if found := _OBJECT_SLOT.fullmatch(name):
        return Name(Kind.SLOT, found["variable"] + OBJECT, found["suffix"])
    for kind, pattern in ((Kind.AVERAGE, _AVERAGE), (Kind.SLOT, _SLOT)):
        found = pattern.fullmatch(name)
        if found:
            return Name(kind, _owner(found["variable"], names), found["suffix"])
    return Name(Kind.VARIABLE, name)


def _owner(variable: str, names: Collection[str]) -> str:
    scopes = variable.split("/")
    for start in range(len(scopes)):
        candidate = "/".join(scopes[start:])
        if candidate in names:
            return candidate
    return variable
