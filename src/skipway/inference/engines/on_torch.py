"""The engines that torch itself is: as the network is written, or compiled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skipway.inference.compiling import compiler_folder
from skipway.inference.engines.base import Engine, EngineError, Work, depends_on_batch
from skipway.inference.engines.cache import Cache
from skipway.inference.engines.folding import folded
from skipway.inference.tracing import quiet
from skipway.models.network import Network


def open_eager(work: Work) -> Engine:
    """The network with its normalizations folded, channels last."""
    network = _prepared(work)
    kind = _kind(work)

    def run(pictures: Tensor) -> Tensor:
        pictures = pictures.to(work.device, kind, memory_format=torch.channels_last)
        return network(pictures).float()

    return Engine("eager", work.precision, run)


def open_compiled(work: Work) -> Engine:
    """torch.compile with the weights frozen into the program, and CUDA graphs on a GPU."""
    if work.device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise EngineError("torch.compile needs a C++ compiler, and there is no g++; install one")
    network = _prepared(work)
    kind = _kind(work)
    options: dict[str, Any] = {"freezing": True}
    if work.device.type == "cuda":
        options |= {"triton.cudagraphs": True, "max_autotune": True}
    program = torch.compile(network, dynamic=False, options=options)

    def run(pictures: Tensor) -> Tensor:
        pictures = pictures.to(work.device, kind, memory_format=torch.channels_last)
        return program(pictures).float()

    spec = network.spec
    example = torch.zeros(work.batch_size, spec.in_channels, spec.input_size, spec.input_size)
    with torch.inference_mode(), _kernels_in(work.cache), quiet():
        run(example)
    return Engine("compile", work.precision, run, None if depends_on_batch(network) else work.batch_size)


def _prepared(work: Work) -> Network:
    """The network with its normalizations folded, on the device, channels last, with weights of the precision."""
    network = folded(work.network)
    network = network.to(work.device).to(memory_format=torch.channels_last)
    if work.precision == "bf16":
        # The norms that stay, and response normalization, keep fp32: they cost no arithmetic worth saving.
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.bfloat16)
    return network


def _kind(work: Work) -> torch.dtype:
    return torch.bfloat16 if work.precision == "bf16" else torch.float32


@contextmanager
def _kernels_in(cache: Cache) -> Iterator[None]:
    """Let torch keep the kernels that it compiles in the cache."""
    with cache.tree("inductor") as folder, compiler_folder(folder):
        yield
