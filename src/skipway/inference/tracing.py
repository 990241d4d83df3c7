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


class Graph(nn.Module):
    """The network in evaluation mode, behind the standardization of uint8 counts unless `rule` is None."""

    def __init__(self, network: Network, rule: Preprocessing | None) -> None:
        super().__init__()
        self.network = network
        self.rule = rule
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures if self.rule is None else self.rule.standardized(pictures))


def traced(graph: Graph, example: Tensor) -> ExportedProgram:
    """The program of torch.export, without dropout, and without the paths of this machine that torch notes in it.

    `example` has two pictures or more: torch takes a batch of one for a constant.
    """
    with _without_zero_padding(graph):
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    program = program.run_decompositions({torch.ops.aten.dropout.default: lambda x, _share, _train: x})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters tell their progress, and warn of their own insides; what they raise is raised."""
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
    found = [
        (owner, name, child)
        for owner in graph.modules()
        for name, child in owner.named_children()
        if isinstance(child, MaxPool2d) and child.padding == "zeros"
    ]
    try:
        for owner, name, child in found:
            setattr(owner, name, _ZeroPaddedPool(child.kernel, child.stride))
        yield
    finally:
        for owner, name, child in found:
            setattr(owner, name, child)


class _ZeroPaddedPool(nn.Module):
    """`MaxPool2d` with the padding "zeros": a window over the border has a 0 to beat, any other has not."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, self.kernel, self.stride, self.kernel // 2)
        rows, columns = (self._over_border(side) for side in x.shape[2:])
        border = torch.tensor([[row or column for column in columns] for row in rows], device=x.device)
        return torch.where(border, F.relu(pooled), pooled)

    def _over_border(self, side: int) -> list[bool]:
        pad = self.kernel // 2
        starts = range(-pad, side + pad - self.kernel + 1, self.stride)
        return [start < 0 or start + self.kernel > side for start in starts]
