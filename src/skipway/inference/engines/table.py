"""Which engines there are, what each can do, and how one is opened and trusted."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skipway.errors import SkipwayError, UnknownNameError
from skipway.inference.engines.base import PRECISIONS, Engine, EngineError, Precision, Work, depends_on_batch
from skipway.inference.engines.on_onnx import open_onnxruntime, open_openvino
from skipway.inference.engines.on_torch import open_compiled, open_eager
from skipway.models.network import Network

# Shares of the largest logit for fp32, where engines differ by the order of sums, and bf16, which has 8 bits. int8 is
# judged by its accuracy, and here only kept from being nonsense: one minus the cosine of the angle to those logits.
LIMITS: dict[Precision, float] = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.1}


@dataclass(frozen=True)
class Kind:
    """An engine: how it is opened, in which arithmetic it runs on which devices, the packages that it needs."""

    open: Callable[[Work], Engine]
    precisions: tuple[Precision, ...]
    devices: tuple[str, ...]
    packages: tuple[str, ...] = ()

    def lacks(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


KINDS: dict[str, Kind] = {
    "eager": Kind(open_eager, ("fp32", "bf16"), ("cpu", "cuda")),
    "compile": Kind(open_compiled, ("fp32", "bf16"), ("cpu", "cuda")),
    "onnxruntime": Kind(open_onnxruntime, ("fp32", "int8"), ("cpu",), ("onnx", "onnxscript", "onnxruntime")),
    "openvino": Kind(
        open_openvino, ("fp32", "bf16", "int8"), ("cpu",), ("onnx", "onnxscript", "onnxruntime", "openvino")
    ),
}
ENGINES = tuple(KINDS)


def able_engines(precision: Precision, device: torch.device, network: Network) -> list[str]:
    """The engines that this machine has for such work."""
    names = [
        name
        for name, kind in KINDS.items()
        if precision in kind.precisions and device.type in kind.devices and not kind.lacks()
    ]
    return [name for name in names if name == "eager"] if depends_on_batch(network) else names


def open_checked(name: str, work: Work) -> Engine:
    """The engine of that name, once its answers are the network's own.

    Raises UnknownNameError for a name that there is not, and EngineError for work that it cannot do, naming the
    engines that can, and for answers that differ.
    """
    _require(name, work)
    engine = _opened(name, work)
    if (name, work.precision) == ("eager", "fp32") and depends_on_batch(work.network):
        return engine  # nothing was folded
    spec = work.network.spec
    dice = torch.Generator().manual_seed(0)
    count = min(work.batch_size, 4)
    pictures = torch.randn(count, spec.in_channels, spec.input_size, spec.input_size, generator=dice)
    if work.calibration:
        pictures = work.calibration[0][:count]
    difference = _difference(engine, work, pictures)
    if not difference <= LIMITS[work.precision]:  # nor NaN
        raise EngineError(
            f"{name} in {work.precision} answers differently from {spec.name} itself ({difference:.1e}, over "
            f"{LIMITS[work.precision]:.0e}) and is not used; give --engine eager or another --precision"
        )
    return engine


def _opened(name: str, work: Work) -> Engine:
    try:
        return KINDS[name].open(work)
    except SkipwayError:
        raise
    except Exception as error:  # of compilers and runtimes, each with errors of its own: none of them is the user's
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EngineError(
            f"{name} cannot run {work.network.spec.name} here ({told[:200]}); give --engine eager"
        ) from error


def _require(name: str, work: Work) -> None:
    if name not in KINDS:
        raise UnknownNameError("engine", name, [*KINDS, "auto"])
    if work.precision not in PRECISIONS:
        raise UnknownNameError("precision", work.precision, PRECISIONS)
    able = able_engines(work.precision, work.device, work.network)
    if name in able:
        return
    kind = KINDS[name]
    if kind.lacks() and work.precision in kind.precisions and work.device.type in kind.devices:
        why = f"needs {', '.join(kind.lacks())}, which is not installed"
    elif depends_on_batch(work.network):
        why = "cannot keep batches whole, on whose statistics this network's answers depend"
    else:
        why = f"does not run {work.precision} on {work.device.type}"
    there = f"give --engine {' or '.join(able)}" if able else "give another --precision"
    raise EngineError(f"{name} {why}; {there}")


def _difference(engine: Engine, work: Work, pictures: Tensor) -> float:
    network = work.network
    device = next(network.parameters()).device
    with torch.inference_mode():
        wanted = network(pictures.to(device)).float().cpu()
        found = engine(pictures.to(work.device)).float().cpu()
    if found.shape != wanted.shape:
        return float("inf")
    if work.precision == "int8":
        return 1 - float(torch.cosine_similarity(found, wanted).mean())
    return float((found - wanted).abs().max() / (wanted.abs().max() or 1.0))
