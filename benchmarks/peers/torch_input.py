"""torchvision's ImageFolder and v2 transforms, as its reference trains: decoded by PIL or by torchvision itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torchvision
from one_core import keep_to_one
from torch.utils.data import DataLoader
from torchvision import io
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from worker import Ready, serve, timed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def set_up(settings: dict[str, Any]) -> Ready:
    keep_to_one()
    torch.set_num_threads(1)
    own = settings["decoder"] == "torchvision"
    # A crop of a PIL picture comes first, as in the reference: only what is kept becomes a tensor.
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(settings["side"], antialias=True),
            v2.RandomHorizontalFlip(0.5),
            *([] if own else [v2.PILToTensor()]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.ToPureTensor(),
        ]
    )
    more: dict[str, Any] = {"loader": _decoded} if own else {}
    data = ImageFolder(settings["data"], transform=transform, **more)
    loader = DataLoader(data, batch_size=settings["batch_size"], shuffle=True, drop_last=True)
    batches = _endless(loader)

    def step() -> None:
        inputs = next(batches)[0].contiguous(memory_format=torch.channels_last)
        assert inputs.shape == (settings["batch_size"], 3, settings["side"], settings["side"])

    return Ready(timed(step), {"versions": {"torchvision": torchvision.__version__, "torch": torch.__version__}})


def _decoded(path: str) -> torch.Tensor:
    return io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB)


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


if __name__ == "__main__":
    serve(set_up)
