"""The machine's measured peak: the fastest large matrix product that torch, or NumPy, can make of it.

No library is the fastest everywhere. On AMD's processors `torch.mm` in fp32 goes to MKL, which takes twice as long as
oneDNN, where the convolutions go: a share of such a peak would exceed 1. So the same product is spelt in several ways.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skipway.benchmark.timing import finish

Run = Callable[[], object]
Product = Callable[[int, torch.dtype, torch.device], Run]

SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
REPEATS = 5
LONGEST = 1.0  # seconds that one product may take; larger ones are left out
HOPELESS = 0.7  # a product this far behind the best at one size is not tried at the next


class Peak:
    """The fastest of all products measured so far.

    `best` is in GFLOP/s, for int8 in thousand millions of operations a second; None if no product ran. Measure before
    and after what is compared with it, since clock speeds drift. The first time all products are tried, then the best
    alone. The number of threads is torch's.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        """`precision` is a key of DTYPES. Nothing is measured yet."""
        self.precision = precision
        self.device = device
        self.best: float | None = None
        self._winner: tuple[Product, int] | None = None

    def measure(self) -> None:
        """Measure, and keep the best."""
        with torch.inference_mode():
            if self._winner is None:
                self._try_all()
            else:
                product, size = self._winner
                self._try(product, size)

    def _try_all(self) -> None:
        """Try every product at every size, without those that are far behind or would take too long."""
        products = list(_products(self.precision, self.device))
        for size in SIZES[self.device.type]:
            next_operations = 2 * (2 * size) ** 3  # a product at the next size
            promising = []
            for product in products:
                rate = self._try(product, size)
                promising.append((product, rate))
            least = HOPELESS * (self.best or 0)
            products = []
            for product, rate in promising:
                if rate > least and next_operations / (rate * 1e9) < LONGEST:
                    products.append(product)

    def _try(self, product: Product, size: int) -> float:
        """GFLOP/s of a product, 0 where this build of torch or this device lacks it."""
        try:
            run = product(size, DTYPES[self.precision], self.device)
            times = [self._seconds(run) for _ in range(1 + REPEATS)]
        except (RuntimeError, AttributeError, TypeError, MemoryError):
            return 0.0
        operations = 2 * size**3
        rate = operations / min(times) / 1e9
        if self.best is None or rate > self.best:
            self.best = rate
            self._winner = (product, size)
        return rate

    def _seconds(self, run: Run) -> float:
        """How long a product takes, on the device's own clock where it has one."""
        if self.device.type == "cuda":
            begun = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            begun.record()
            run()
            ended.record()
            finish(self.device)
            milliseconds = begun.elapsed_time(ended)
            return milliseconds / 1000
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def _products(precision: str, device: torch.device) -> Iterator[Product]:
    """The ways to write a product in this precision on this device."""
    if precision == "int8":
        yield int_mm
        return
    yield mm
    yield convolution  # on CUDA this one may use TF32, as the networks' convolutions do
    if device.type == "cpu":
        yield onednn_linear
        if precision == "fp32" and _numpy_threads() == torch.get_num_threads():
            yield numpy_matmul


def mm(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """`torch.mm` of two squares of `size` rows."""
    a = _square(size, dtype, device)
    b = _square(size, dtype, device)
    return lambda: torch.mm(a, b)


def convolution(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """The same product as a 1x1 convolution: 16 pictures of `size` channels, `size` pixels in all."""
    side = _square(size, dtype, device)  # rows are pixels
    # 16 pictures, since torch leaves a single one to MKL.
    x = side.view(16, size // 128, 8, size).permute(0, 3, 1, 2)
    weight = _square(size, dtype, device).view(size, size, 1, 1)
    weight = weight.contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, weight)


def onednn_linear(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """The same product as a linear layer of oneDNN, its weight in oneDNN's own layout."""
    ops: Any = torch.ops.mkldnn
    x = _square(size, dtype, device)
    weight = _square(size, dtype, device)
    reordered = ops._reorder_linear_weight(weight)
    return lambda: ops._linear_pointwise(x, reordered, None, "none", [], "")


def numpy_matmul(size: int, dtype: torch.dtype, device: torch.device) -> Run:  # noqa: ARG001 (fp32 on the CPU alone)
    """The same product by the BLAS that NumPy came with."""
    cpu = torch.device("cpu")
    a = _square(size, torch.float32, cpu).numpy()
    b = _square(size, torch.float32, cpu).numpy()
    return lambda: np.matmul(a, b)


def int_mm(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """The product of int8 squares, summed in int32."""
    a = torch.randint(-127, 128, (size, size), dtype=dtype, device=device)
    b = torch.randint(-127, 128, (size, size), dtype=dtype, device=device)
    return lambda: torch._int_mm(a, b)


def _square(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A random square of `size` rows, uniform from 0 to 1."""
    values = torch.rand(size, size, device=device)
    return values.to(dtype)


def _numpy_threads() -> int:
    """Threads of NumPy's BLAS: it reads the environment, and neither torch's setting nor a cgroup's quota."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        threads = os.environ.get(name, "")
        if threads.isdecimal():
            return int(threads)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
