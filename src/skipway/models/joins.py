"""How a shortcut and its branch come together other than as their sum: what He et al. 2016 ("Identity mappings in deep
residual networks", section 3.1, fig. 2, table 1) tried on the identity shortcuts of ResNet v1."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from skipway.models.initialization import fill
from skipway.models.layers import conv2d_same

Carry = Literal["identity", "scale", "scale_shortcut", "exclusive_gate", "shortcut_gate", "dropout"]

_HALF = 0.5  # the paper's factor, and its dropout rate


class Scaling(nn.Module):
    """Constant scaling (fig. 2b): both sides times fixed factors."""

    def __init__(self, *, kept: float, added: float) -> None:
        super().__init__()
        self.kept, self.added = kept, added

    def forward(self, x: Tensor, kept: Tensor, branch: Tensor) -> Tensor:  # noqa: ARG002 (gates look at x)
        return self.kept * kept + self.added * branch

    def extra_repr(self) -> str:
        return f"kept={self.kept}, added={self.added}"


class Gating(nn.Module):
    """Gates g = sigmoid(1x1 convolution of the unit's input x), one for each value of the output.

    The shortcut is multiplied by 1 - g; the branch, where the gating is `exclusive` (fig. 2c), by g, and else by
    nothing (fig. 2d: shortcut-only gating). The convolution has the unit's stride and depth, so that units that change
    the shape can be gated, too. Its bias starts at `bias`: far below zero, so that the shortcut is nearly open.
    """

    def __init__(self, channels: int, depth: int, stride: int, *, exclusive: bool, bias: float) -> None:
        super().__init__()
        self.gate = conv2d_same(channels, depth, 1, stride=stride)
        self.exclusive = exclusive
        self.bias = bias
        self.reset_bias()

    def reset_bias(self) -> None:
        """Give the gate its first bias, which an initialization draws over."""
        fill(self.gate.bias, self.bias)

    def forward(self, x: Tensor, kept: Tensor, branch: Tensor) -> Tensor:
        g = torch.sigmoid(self.gate(x))
        return kept * (1 - g) + (branch * g if self.exclusive else branch)

    def extra_repr(self) -> str:
        return f"exclusive={self.exclusive}, bias={self.bias}"


class Dropping(nn.Module):
    """Dropout of half of the shortcut's values (fig. 2f).

    As in every framework the values that stay are doubled in training, and evaluation drops nothing: their mean stays.
    The paper counts the dropped shortcut as a scaling by 0.5 in the mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(_HALF)

    def forward(self, x: Tensor, kept: Tensor, branch: Tensor) -> Tensor:  # noqa: ARG002
        return self.dropout(kept) + branch


def join_for(carry: Carry, channels: int, depth: int, stride: int, gate_bias: float) -> nn.Module | None:
    """What joins (x, shortcut, branch) -> the sum before a unit's last ReLU; None for the plain sum."""
    match carry:
        case "identity":
            return None
        case "scale" | "scale_shortcut":
            return Scaling(kept=_HALF, added=_HALF if carry == "scale" else 1.0)
        case "exclusive_gate" | "shortcut_gate":
            return Gating(channels, depth, stride, exclusive=carry == "exclusive_gate", bias=gate_bias)
        case "dropout":
            return Dropping()
