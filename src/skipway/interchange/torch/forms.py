"""The forms in which weights are exported for PyTorch: torchvision, timm, CIFAR networks, Hugging Face."""

from __future__ import annotations

from pathlib import Path

from skipway.interchange.form import Arrays, Form, ending_of
from skipway.interchange.torch import safetensors, write
from skipway.weights.bundle import Bundle

_ENDINGS = (".pth", ".pt", ".th")


def _write(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001 (all forms are written alike)
    if ending_of(to) == ".safetensors":
        safetensors.write(to, arrays, {"format": "pt"})
    else:
        write.write(to, arrays)


FORMS = (
    Form("torchvision", _ENDINGS, _write, named=(".safetensors",)),
    Form("timm", _ENDINGS, _write, named=(".safetensors",)),
    Form("cifar_torch", _ENDINGS, _write, named=(".safetensors",)),
    Form("hugging_face", (".bin",), _write, named=(*_ENDINGS, ".safetensors")),
)
