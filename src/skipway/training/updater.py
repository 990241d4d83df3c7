"""One update of the weights, with the sums that the progress line and the check of divergence need."""

from __future__ import annotations

import os
import shutil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipway.data.augmentation import BatchAugmentation, Mixed, mixed
from skipway.data.draws import seed_torch
from skipway.data.loading import Batch
from skipway.data.preprocessing import Preprocessing
from skipway.errors import SkipwayError
from skipway.inference.compiling import use_own_compiler_folder
from skipway.models.network import Network
from skipway.training.averaging import Average
from skipway.training.optimizer import build_optimizer
from skipway.training.recipe import Recipe
from skipway.training.schedule import learning_rate
from skipway.world.ranks import World

_WORTH_COMPILING = 2000  # steps


class Updater:
    """Network, optimizer, scaler and average of a run: everything that an update changes."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        preprocessing: Preprocessing,
        world: World,
        *,
        seed: int,
        total_steps: int,
        frozen: list[nn.Module],
        class_weights: Tensor | None,
        colours: Tensor | None,
    ) -> None:
        self.recipe = recipe
        self.preprocessing = preprocessing
        self.world = world
        self.seed = seed
        self.total_steps = total_steps
        self.frozen = frozen
        self.device = world.device
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.forward: nn.Module = self.network
        if world.size > 1:
            self.forward = nn.parallel.DistributedDataParallel(self.network)
            _settle_layout(self.forward, self.network)
        if compiles(recipe, self.device, total_steps):
            self.forward = compiled(self.forward)
        self.optimizer = build_optimizer(self.network, recipe, self.device)
        self.average: Average | None = None
        if recipe.ema:
            self.average = Average(self.network, recipe.ema)
        self.precision = pick_precision(recipe.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.augment = BatchAugmentation(recipe.augmentation, seed, colours)
        self.class_weights: Tensor | None = None
        if class_weights is not None:
            self.class_weights = class_weights.to(self.device)
        # Sums stay on the device: reading them back at each step would stall a GPU.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.right = torch.zeros((), dtype=torch.int64, device=self.device)
        # The first step whose loss was not finite, counted from 1; -1 while there is none.
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)

    @property
    def judged(self) -> Network:
        """The network to validate and keep: the average where there is one."""
        if self.average is None:
            return self.network
        return self.average.shadow  # type: ignore[return-value]

    def train_mode(self) -> None:
        """Training mode, but for the frozen stages: their batch statistics stay as they are."""
        self.forward.train()
        for stage in self.frozen:
            stage.eval()

    def update(self, batch: Batch, step: int) -> None:
        """Update number `step`, counted from 0, on this rank's part of its batch."""
        seed_torch(self.seed, step, self.world.rank)
        rate = learning_rate(self.recipe, step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = self._inputs(batch)
        draw_number = step * self.world.size + self.world.rank
        blend = mixed(inputs, targets, self.recipe.augmentation, self.seed, draw_number)
        if blend is not None:
            inputs = blend.inputs
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        loss = self._backward(inputs, targets, blend, batch.weight)
        self._step_optimizer()
        if self.average is not None:
            self.average.update(step)
        self.loss_sum += loss * len(targets)
        is_first_bad = (self.bad_step < 0) & ~loss.isfinite()
        self.bad_step = torch.where(is_first_bad, step + 1, self.bad_step)

    def _step_optimizer(self) -> None:
        """Change the weights by their gradients, and delete the gradients."""
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The augmented, standardized pictures of a batch and their classes, on the device."""
        counts = batch.pixels.to(self.device, non_blocking=True)
        # While they are bytes, a quarter of what the floats would take to move.
        counts = counts.contiguous(memory_format=torch.channels_last)
        counts = self.augment(counts, batch.epoch, batch.indices.numpy())
        inputs = self.preprocessing.standardized(counts)
        targets = batch.targets.to(self.device, non_blocking=True)
        return inputs, targets

    def _backward(self, inputs: Tensor, targets: Tensor, blend: Mixed | None, weight: float) -> Tensor:
        """Compute the gradients of the whole batch, in parts, and return its mean loss.

        DDP averages gradients over ranks: `weight` makes each picture count once.
        """
        pairs = len(targets) // 2
        part_count = max(min(self.recipe.accumulation, pairs), 1)
        total = torch.zeros((), device=self.device)
        for rows in torch.arange(len(targets)).tensor_split(part_count):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            part_targets = targets[part]
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                logits = self.forward(inputs[part])
            share = len(rows) / len(targets)
            loss = self._loss(logits.float(), part_targets, blend, part) * share
            scaled_loss = self.scaler.scale(loss * weight)
            scaled_loss.backward()  # type: ignore[no-untyped-call]
            answers = logits.detach().argmax(1)
            self.right += (answers == part_targets).sum()
            total += loss.detach()
        return total

    def _loss(self, logits: Tensor, targets: Tensor, blend: Mixed | None, part: slice) -> Tensor:
        """Mean cross-entropy of a part of a batch; of blended pictures, that of both classes by their shares."""
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(logits, targets, self.class_weights, label_smoothing=smoothing)
        if blend is None:
            return loss
        partners = blend.partners[part]
        partner_loss = F.cross_entropy(logits, partners, self.class_weights, label_smoothing=smoothing)
        return blend.share * loss + (1 - blend.share) * partner_loss


def _settle_layout(parallel: nn.Module, network: Network) -> None:
    """Run a backward pass that changes nothing but the layout of DDP's gradients.

    DDP lays the gradients out anew, in the order in which they came in its first pass. From three ranks on, the order
    of a sum over the ranks depends on the place in that layout: the first step of a resumed run would add in another
    order than the same step of a run that was never stopped.
    """
    spec = network.spec
    device = next(network.parameters()).device
    kept = [buffer.clone() for buffer in network.buffers()]
    parallel.train()
    pictures = torch.zeros(2, spec.in_channels, spec.input_size, spec.input_size, device=device)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    logits = parallel(pictures)
    logits.sum().backward()
    network.zero_grad(set_to_none=True)
    for buffer, value in zip(network.buffers(), kept, strict=True):
        buffer.copy_(value)


def compiles(recipe: Recipe, device: torch.device, steps: int) -> bool:
    """Whether a run of so many steps compiles its network."""
    if recipe.compile == "auto":
        return device.type == "cuda" and steps >= _WORTH_COMPILING
    return recipe.compile == "on"


def compiled(network: nn.Module) -> nn.Module:
    """The network as one program, for its forward and its backward pass. Parameters and modes are those of `network`.

    The size of a batch is part of the program: an epoch's last, smaller one compiles once more. Raises SkipwayError
    where there is no compiler.
    """
    device = next(network.parameters()).device
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise SkipwayError(
                "compiling needs a C++ compiler, and there is no g++; install one, or give compile = 'off'"
            )
    use_own_compiler_folder()
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype that a recipe's `precision` means on a device."""
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name != "auto":
        return types[name]
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32
