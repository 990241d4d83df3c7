"""The variables of a network among the constants of a frozen TensorFlow graph."""

from __future__ import annotations

from collections.abc import Collection

from skipway.errors import ModelFileError
from skipway.interchange.source import Array, WeightFile

_VARIABLES = frozenset(("weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"))
_UNIT = "/bottleneck_v"  # TF-Slim's scope of a residual unit


def variables(source: WeightFile) -> dict[str, Array]:
    """Give the constants that TF-Slim's layers call their variables, or all constants where there are none of these.

    The other constants are paddings, axes and shapes. Raises ModelFileError for a residual network whose batch norms
    were folded into its convolutions.
    """
    found: dict[str, Array] = {}
    for name, array in source.arrays.items():
        _scope, _slash, variable = name.rpartition("/")
        if variable in _VARIABLES:
            found[name] = array
    is_residual = any(_UNIT in name for name in source.arrays)
    if is_residual and not _has_batch_norm(source, found):
        raise ModelFileError(
            f"{source.path} was optimized for inference: its batch norms are folded into the convolutions and cannot "
            "be had back; give the frozen graph from before that, or its checkpoint"
        )
    if not found:
        return dict(source.arrays)
    return found


def _has_batch_norm(source: WeightFile, names: Collection[str]) -> bool:
    """Whether a graph has a layer of batch norm, or `names` the variance of one."""
    for layer in source.layers:
        if layer.kind.startswith("FusedBatchNorm"):
            return True
    return any(name.endswith("/moving_variance") for name in names)
