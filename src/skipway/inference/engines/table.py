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
class EngineKind:
    """What there is to know about an engine before it is opened.

    Attributes:
        open: Opens it for some work.
        precisions: The arithmetic that it can run in.
        devices: Types of the devices that it runs on.
        packages: The packages that it needs beside torch.
    """

    open: Callable[[Work], Engine]
    precisions: tuple[Precision, ...]
    devices: tuple[str, ...]
    packages: tuple[str, ...] = ()

    def lacks(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def runs(self, precision: Precision, device: torch.device) -> bool:
        """Whether it runs in this arithmetic on this device."""
        return precision in self.precisions and device.type in self.devices


KINDS: dict[str, EngineKind] = {
    "eager": EngineKind(open_eager, ("fp32", "bf16"), ("cpu", "cuda")),
    "compile": EngineKind(open_compiled, ("fp32", "bf16"), ("cpu", "cuda")),
    "onnxruntime": EngineKind(open_onnxruntime, ("fp32", "int8"), ("cpu",), ("onnx", "onnxscript", "onnxruntime")),
    "openvino": EngineKind(
        open_openvino, ("fp32", "bf16", "int8"), ("cpu",), ("onnx", "onnxscript", "onnxruntime", "openvino")
    ),
}
ENGINES = tuple(KINDS)


def able_engines(precision: Precision, device: torch.device, network: Network) -> list[str]:
    """The engines that this machine has for such work."""
    needs_whole_batches = depends_on_batch(network)
    names = []
    for name, kind in KINDS.items():
        if needs_whole_batches and name != "eager":
            continue
        if kind.runs(precision, device) and not kind.lacks():
            names.append(name)
    return names


def open_checked(name: str, work: Work) -> Engine:
    """The engine of that name, once its answers are the network's own.

    Raises UnknownNameError for a name that there is not, and EngineError for work that it cannot do, naming the
    engines that can, and for answers that differ.
    """
    _require(name, work)
    engine = _opened(name, work)
    is_eager = (name, work.precision) == ("eager", "fp32")
    if is_eager and depends_on_batch(work.network):
        return engine  # nothing was folded
    spec = work.network.spec
    count = min(work.batch_size, 4)
    if work.calibration:
        pictures = work.calibration[0][:count]
    else:
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(count, spec.in_channels, spec.input_size, spec.input_size, generator=generator)
    difference = _difference(engine, work, pictures)
    limit = LIMITS[work.precision]
    is_close = difference <= limit  # not for NaN
    if not is_close:
        raise EngineError(
            f"{name} in {work.precision} answers differently from {spec.name} itself ({difference:.1e}, over "
            f"{limit:.0e}) and is not used; give --engine eager or another --precision"
        )
    return engine


def _opened(name: str, work: Work) -> Engine:
    """The engine, without a check. Raises EngineError where it cannot be opened."""
    try:
        return KINDS[name].open(work)
    except SkipwayError:
        raise
    except Exception as error:  # of compilers and runtimes, each with errors of its own: none of them is the user's
        reason = _first_line(error)[:200]
        raise EngineError(f"{name} cannot run {work.network.spec.name} here ({reason}); give --engine eager") from error


def _first_line(error: Exception) -> str:
    """The first line of an error's message that is not empty; the name of its type where it has none."""
    for line in str(error).splitlines():
        text = line.strip()
        if text:
            return text
    return type(error).__name__


def _require(name: str, work: Work) -> None:
    """Raises UnknownNameError for an unknown engine or precision, EngineError for an engine that cannot do the work."""
    if name not in KINDS:
        raise UnknownNameError("engine", name, [*KINDS, "auto"])
    if work.precision not in PRECISIONS:
        raise UnknownNameError("precision", work.precision, PRECISIONS)
    able = able_engines(work.precision, work.device, work.network)
    if name in able:
        return
    kind = KINDS[name]
    lacking = kind.lacks()
    if lacking and kind.runs(work.precision, work.device):
        reason = f"needs {', '.join(lacking)}, which is not installed"
    elif depends_on_batch(work.network):
        reason = "cannot keep batches whole, on whose statistics this network's answers depend"
    else:
        reason = f"does not run {work.precision} on {work.device.type}"
    fix = "give another --precision"
    if able:
        fix = f"give --engine {' or '.join(able)}"
    raise EngineError(f"{name} {reason}; {fix}")


def _difference(engine: Engine, work: Work, pictures: Tensor) -> float:
    """How far an engine's logits are from the network's own, by the measure of `LIMITS`."""
    network = work.network
    device = next(network.parameters()).device
    with torch.inference_mode():
        expected = network(pictures.to(device)).float().cpu()
        logits = engine(pictures.to(work.device)).float().cpu()
    if logits.shape != expected.shape:
        return float("inf")
    if work.precision == "int8":
        cosine = torch.cosine_similarity(logits, expected).mean()
        return 1 - float(cosine)
    largest = expected.abs().max()
    difference = (logits - expected).abs().max()
    return float(difference / (largest or 1.0))
