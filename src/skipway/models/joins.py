"""Ways to combine a shortcut and its branch other than as their plain sum.

They were tried on the identity shortcuts of ResNet v1 (He and others 2016, "Identity mappings in deep residual
networks", section 3.1, fig. 2, table 1).
"""

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
        self.kept = kept
        self.added = added

    def forward(self, x: Tensor, kept: Tensor, branch: Tensor) -> Tensor:  # noqa: ARG002 (gates look at x)
        """The weighted sum of the shortcut's output `kept` and of `branch`, both (N, C, H, W)."""
        return self.kept * kept + self.added * branch

    def extra_repr(self) -> str:
        """The factors, for printing."""
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
        """The gated sum of the shortcut's output `kept` and of `branch`, both (N, C, H, W); `x` is the unit's input."""
        g = torch.sigmoid(self.gate(x))
        kept = kept * (1 - g)
        if self.exclusive:
            branch = branch * g
        return kept + branch

    def extra_repr(self) -> str:
        """The constants, for printing."""
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
        """The sum of what stays of the shortcut's output `kept` and of `branch`, both (N, C, H, W)."""
        return self.dropout(kept) + branch


def join_for(carry: Carry, channels: int, depth: int, stride: int, gate_bias: float) -> nn.Module | None:
    """The layer that joins (x, shortcut, branch) -> the sum before a unit's last ReLU; None for the plain sum.

    `channels` is the depth of the unit's input, `depth` that of its output, and `stride` the unit's own.
    """
    if carry == "scale":
        return Scaling(kept=_HALF, added=_HALF)
    if carry == "scale_shortcut":
        return Scaling(kept=_HALF, added=1.0)
    if carry == "exclusive_gate":
        return Gating(channels, depth, stride, exclusive=True, bias=gate_bias)
    if carry == "shortcut_gate":
        return Gating(channels, depth, stride, exclusive=False, bias=gate_bias)
    if carry == "dropout":
        return Dropping()
    return None
