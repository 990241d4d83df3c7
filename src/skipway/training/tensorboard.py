"""TensorBoard events of a run: scalars, the graph, example pictures with their predictions, histograms of weights."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skipway.data.dataset import Split
from skipway.data.preprocessing import Preprocessing
from skipway.errors import StorageError
from skipway.models.network import Network
from skipway.reporting import escaped

_EXAMPLES = 8
_HISTOGRAM_VALUES = 100_000


class Events:
    """Writes into `folder`. After a resume, TensorBoard hides the events from `step` on that a killed run left behind.

    All methods raise StorageError where the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self._before = threading.excepthook
        # TensorBoard writes from its own thread: a failure reaches us with the next call and needs no traceback.
        threading.excepthook = _unless_storage
        with _written(folder):
            # A run that begins at step 0 leaves no events to hide.
            self.writer: Any = SummaryWriter(str(folder), purge_step=step or None)

    def graph(self, network: Network) -> None:
        """The network's graph for one picture of its input size; its mode is kept."""
        spec = network.spec
        example = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size, device=_device(network))
        was_training = network.training
        network.eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer is deprecated, but TensorBoard knows no other graph
            with _written(self.folder):
                self.writer.add_graph(network, example)
        network.train(was_training)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Named numbers at a step."""
        with _written(self.folder):
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def examples(
        self, step: int, network: Network, split: Split, preprocessing: Preprocessing, labels: tuple[str, ...]
    ) -> None:
        """A few pictures of the split, each with its class, the network's answer and the answer's probability."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        distance = max(len(split) // _EXAMPLES, 1)
        places = range(0, len(split), distance)[:_EXAMPLES]
        pixels = torch.stack([preprocessing.pixels(split.pictures[place]) for place in places])
        was_training = network.training
        network.eval()
        with torch.inference_mode():
            inputs = preprocessing.standardized(pixels.to(_device(network)))
            probabilities = network(inputs).float().softmax(1)
            best, answers = probabilities.max(1)
        network.train(was_training)
        figure = Figure(figsize=(2 * len(places), 2.6))
        FigureCanvasAgg(figure)
        for column, place in enumerate(places):
            axes = figure.add_subplot(1, len(places), column + 1)
            picture = pixels[column].byte().permute(1, 2, 0).squeeze(-1)
            axes.imshow(picture.numpy(), cmap="gray")
            true_class = int(split.targets[place])
            answered_class = int(answers[column])
            truth = escaped(labels[true_class])
            answer = escaped(labels[answered_class])
            title = f"{answer[:14]} {float(best[column]):.0%}\n({truth[:14]})"
            color = "green" if answered_class == true_class else "red"
            axes.set_title(title, fontsize=9, color=color, parse_math=False)
            axes.axis("off")
        with warnings.catch_warnings(), _written(self.folder):
            warnings.simplefilter("ignore")  # labels may use letters that the font lacks: boxes must do
            figure.tight_layout()
            self.writer.add_figure("examples: answer and probability (truth)", figure, step, close=False)

    def histograms(self, step: int, network: nn.Module) -> None:
        """Distribution of every parameter; a large one is sampled evenly."""
        with _written(self.folder):
            for name, parameter in network.named_parameters():
                self.writer.add_histogram(f"weights/{name}", _sampled(parameter.detach()), step)

    def close(self) -> None:
        """Flush what is left."""
        try:
            with _written(self.folder):
                self.writer.close()
        finally:
            threading.excepthook = self._before


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn a failure to write into a StorageError that names the folder and the fix."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or error
        raise StorageError(
            f"events could not be written to {folder} ({cause}); free some space, then resume the run"
        ) from None


def _unless_storage(arguments: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread's error, unless it is one of the file system."""
    if not issubclass(arguments.exc_type, OSError):
        threading.__excepthook__(arguments)


def _sampled(values: Tensor) -> Tensor:
    """A flat tensor of evenly spaced values, float32, on the CPU."""
    flat = values.flatten().float()
    distance = max(flat.numel() // _HISTOGRAM_VALUES, 1)
    return flat[::distance].cpu()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
