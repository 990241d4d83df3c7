"""The variables of a network among the constants of a frozen TensorFlow graph."""

from __future__ import annotations

from skipway.errors import ModelFileError
from skipway.interchange.source import Array, Source

_VARIABLES = frozenset(("weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"))
_UNIT = "/bottleneck_v"  # TF-Slim's scope of a residual unit


def variables(source: Source) -> dict[str, Array]:
    """The constants that TF-Slim's layers call their variables; all of a graph where there are none. The rest are
    paddings, axes and shapes. Raises ModelFileError for a residual network that has lost its normalizations."""
    found = {name: array for name, array in source.arrays.items() if name.rpartition("/")[2] in _VARIABLES}
    normalized = any(layer.kind.startswith("FusedBatchNorm") for layer in source.layers) or any(
        name.endswith("/moving_variance") for name in found
    )
    if not normalized and any(_UNIT in name for name in source.arrays):
        raise ModelFileError(
            f"{source.path} was optimized for inference: its batch norms are folded into the convolutions and cannot "
            "be had back; give the frozen graph from before that, or its checkpoint"
        )
    return found or dict(source.arrays)
