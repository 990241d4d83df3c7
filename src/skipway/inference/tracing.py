"""A network as one graph of torch's operators, for batches of any size: what other runners get starts here."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from skipway.data.preprocessing import Preprocessing
from skipway.models.layers import MaxPool2d
from skipway.models.network import Network

INPUT, OUTPUT = "pictures", "logits"


class TracedNetwork(nn.Module):
    """The network in evaluation mode, behind the standardization of uint8 counts unless `rule` is None."""

    def __init__(self, network: Network, rule: Preprocessing | None) -> None:
        super().__init__()
        self.network = network
        self.rule = rule
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits for pictures (N, C, H, W), prepared first where there is a rule."""
        if self.rule is not None:
            pictures = self.rule.standardized(pictures)
        return self.network(pictures)


def traced(graph: TracedNetwork, example: Tensor) -> ExportedProgram:
    """The program of torch.export, without dropout, and without the paths of this machine that torch notes in it.

    `example` has two pictures or more: torch takes a batch of one for a constant.
    """
    batch = Dim("batch", min=1)
    with _without_zero_padding(graph):
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: batch},))
    program = program.run_decompositions({torch.ops.aten.dropout.default: lambda x, _share, _train: x})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters, which print their progress and warn of their own insides; what they raise is raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _without_zero_padding(graph: nn.Module) -> Iterator[None]:
    """Write every max pooling of a picture padded with zeros in another way that gives the same.

    Optimizers of ONNX, ONNX Runtime's own among them (`pad_fusion.cc`), move a Pad of zeros into the MaxPool behind it,
    where padding counts as -inf: Keras's ResNet v2 then answers otherwise by some percent.
    """
    pools = []
    for owner in graph.modules():
        for name, child in owner.named_children():
            if isinstance(child, MaxPool2d) and child.padding == "zeros":
                pools.append((owner, name, child))
    try:
        for owner, name, pool in pools:
            replacement = _ZeroPaddedPool(pool.kernel, pool.stride)
            setattr(owner, name, replacement)
        yield
    finally:
        for owner, name, pool in pools:
            setattr(owner, name, pool)


class _ZeroPaddedPool(nn.Module):
    """`MaxPool2d` with the padding "zeros": a window over the border has a 0 to beat, any other has not."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        padding = self.kernel // 2
        pooled = F.max_pool2d(x, self.kernel, self.stride, padding)
        height, width = x.shape[2:]
        rows = self._over_border(height)
        columns = self._over_border(width)
        border = torch.tensor([[row or column for column in columns] for row in rows], device=x.device)
        return torch.where(border, F.relu(pooled), pooled)

    def _over_border(self, side: int) -> list[bool]:
        """For each window along a side, whether a part of it lies over the border."""
        padding = self.kernel // 2
        last_start = side + padding - self.kernel
        windows = []
        for start in range(-padding, last_start + 1, self.stride):
            end = start + self.kernel
            windows.append(start < 0 or end > side)
        return windows
