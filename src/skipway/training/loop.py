"""The loop: steps, epochs, checkpoints. Everything it knows is in Progress and Updater, so it can start anywhere."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from skipway.data.identity import NONE_SEEN, Identity, Seen
from skipway.data.loading import Plan, evaluation_batches, training_batches
from skipway.data.memory import memory_for
from skipway.errors import DivergedError
from skipway.evaluation.metrics import Evaluation, evaluate_network
from skipway.files import remove_leftovers
from skipway.models.network import Network
from skipway.training.console import Reporter
from skipway.training.folder import drop_replaced, old_run_waits
from skipway.training.history import write_metrics
from skipway.training.job import Start
from skipway.training.recipe import Recipe, recipe_to_toml
from skipway.training.schedule import learning_rate
from skipway.training.state import all_finite, checkpoints, save_checkpoint
from skipway.training.tensorboard import Events
from skipway.training.updater import Updater
from skipway.weights.bundle import Bundle, save_bundle
from skipway.weights.identity import identity_tensors

EVALUATION_BATCH = 128
_GPU_CHECK_STEPS = 20
_SAME_SIGNAL_SECONDS = 3.0


class StoppedError(KeyboardInterrupt):
    """Training that a signal ended, after it saved what a resume needs."""


class Loop:
    """One run in one process. `run` trains to the end or raises; afterwards `progress` tells how it went."""

    def __init__(self, start: Start, updater: Updater, plan: Plan, reporter: Reporter, workers: int) -> None:
        self.start, self.updater, self.plan, self.reporter, self.workers = start, updater, plan, reporter, workers
        self.folder, self.recipe, self.material = start.folder, start.recipe, start.material
        self.preprocessing, self.progress = start.preprocessing, start.progress
        self.world = updater.world
        self.total = total_steps(start.recipe, plan)
        self.epochs = -(-self.total // plan.steps_per_epoch)
        self.events: Events | None = None
        self._val_memory = None if self.material.val is None else memory_for(self.material.val, self.preprocessing)
        self._stop_asked = False
        self._asked_at = 0.0
        self._seen_before = 0

    def run(self) -> None:
        """Train from `progress.step` to the end. Raises DivergedError, StoppedError, DataError, StorageError."""
        # A resume gives the sums of all ranks to the main one: these pictures were not seen at this rank's own rate.
        self._seen_before = self.progress.seen
        if self.world.main:
            for place in (self.folder, self.folder / "checkpoints"):
                remove_leftovers(place)
            self.events = Events(self.folder, self.progress.step)
            if self.progress.step == 0:
                self.events.graph(self.updater.judged)
        try:
            with self._signals():
                self._steps()
        finally:
            if self.events is not None:
                self.events.close()

    def _steps(self) -> None:
        progress, updater = self.progress, self.updater
        self._finish_due_epoch()
        batches = training_batches(
            self.material.train,
            self.plan,
            self.preprocessing,
            self.recipe.augmentation,
            start=progress.step,
            stop=self.total,
            workers=self.workers,
            pin=self.world.device.type == "cuda",
        )
        updater.train_mode()
        clock = time.perf_counter()
        for batch in batches:
            if progress.stopped_early:
                break
            updater.update(batch, progress.step)
            progress.step += 1
            progress.seen += len(batch.targets)
            now = time.perf_counter()
            progress.train_seconds += now - clock
            progress.total_seconds += now - clock
            self._after_step()
            self._finish_due_epoch()
            clock = time.perf_counter()
        # During the last validation: the last checkpoint is written, the report is not.
        if self.world.any(self._stop_asked):
            self._raise_stopped()

    def _after_step(self) -> None:
        step = self.progress.step
        # Asking a GPU or the other ranks at every step would stall them.
        due = self.world.device.type != "cuda" or step % _GPU_CHECK_STEPS == 0
        if due:
            self._check_finite()
            self._show()
        if self._stop_asked if self.world.size == 1 else due and self.world.any(self._stop_asked):
            self.save()
            self._raise_stopped()
        if self.recipe.checkpoint_steps and step % self.recipe.checkpoint_steps == 0:
            self.save()

    def _finish_due_epoch(self) -> None:
        """Validate, record and save once an epoch's last step is done; also after a resume from that very step."""
        progress, per_epoch = self.progress, self.plan.steps_per_epoch
        ended = progress.step % per_epoch == 0 or progress.step == self.total
        if progress.step == 0 or not ended or len(progress.history) >= -(-progress.step // per_epoch):
            return
        self._check_finite()
        began = time.perf_counter()
        evaluation = self.judge(self.updater.judged)
        self._record(evaluation)
        progress.total_seconds += time.perf_counter() - began
        self._zero_sums()
        if self.recipe.checkpoint_steps == 0 or progress.step == self.total or progress.stopped_early:
            self.save()
        self.updater.train_mode()

    def judge(self, network: Network) -> Evaluation | None:
        """Validation of a network on this rank's part of the pictures; None when nothing is held out."""
        if self.material.val is None:
            return None
        self.world.share(network.buffers())  # batch normalization's statistics differ by rank
        batches = evaluation_batches(
            self.material.val,
            self.preprocessing,
            batch_size=EVALUATION_BATCH,
            workers=self.workers,
            pin=self.world.device.type == "cuda",
            rank=self.world.rank,
            world=self.world.size,
            memory=self._val_memory,
        )
        return evaluate_network(
            network,
            batches,
            self.preprocessing,
            self.material.labels,
            self.world.device,
            precision=self.updater.precision,
        )

    def _record(self, evaluation: Evaluation | None) -> None:
        progress, updater = self.progress, self.updater
        loss_sum, right, seen = self.world.summed(float(updater.loss_sum), int(updater.right), progress.seen)
        row = {
            "epoch": float(len(progress.history) + 1),
            "step": float(progress.step),
            "learning_rate": learning_rate(self.recipe, progress.step - 1, self.total),
            "train_loss": loss_sum / seen,
            "train_top1": right / seen,
            "images_per_second": seen / max(progress.train_seconds, 1e-9),
            "seconds": progress.total_seconds,
        }
        if evaluation is not None:
            row |= {"val_loss": evaluation.loss, "val_top1": evaluation.top1, "val_top5": evaluation.top5}
        progress.history.append(row)
        self.reporter.epoch(row, self.epochs)
        if evaluation is not None and (evaluation.top1, -evaluation.loss) > (progress.best_top1, -progress.best_loss):
            progress.best_epoch = len(progress.history)
            progress.best_top1, progress.best_loss = evaluation.top1, evaluation.loss
            if self.recipe.keep == "best":
                self.keep(self.updater.judged, {"top1": evaluation.top1, "loss": evaluation.loss})
        patience = self.recipe.early_stopping
        if patience and len(progress.history) - progress.best_epoch >= patience:
            progress.stopped_early = True
            self.reporter.say(f"no better epoch in {patience}: stopping early")
        self._write_epoch(row)

    def _write_epoch(self, row: dict[str, float]) -> None:
        if self.events is None:
            return
        write_metrics(self.folder / "metrics.csv", self.progress.history)
        step, judged = self.progress.step, self.updater.judged
        self.events.scalars(step, {key: value for key, value in row.items() if key not in {"epoch", "step"}})
        self.events.histograms(step, judged)
        shown = self.material.val if self.material.val is not None else self.material.train
        self.events.examples(step, judged, shown, self.preprocessing, self.material.labels)

    def keep(self, network: Network, metrics: dict[str, object]) -> None:
        """Write model.safetensors with this network's weights."""
        if not self.world.main:
            return
        bundle = Bundle(
            spec=network.spec,
            preprocessing=self.preprocessing,
            labels=self.material.labels,
            tensors=dict(network.state_dict()),
            provenance={"tool": "skipway train", "data": self.material.name, "recipe": self.recipe.name},
            metrics=metrics,
            identity=self.start.identity,
        )
        save_bundle(self.folder / "model.safetensors", bundle)

    def save(self) -> None:
        """Write a checkpoint. The weights must be finite: a diverged run keeps its last good one."""
        updater, progress = self.updater, self.progress
        finite = all_finite(list(updater.network.state_dict().values()))
        if self.world.any(not finite):  # running statistics may be those of one rank alone
            self._raise_diverged(progress.step)
        loss_sum, right, seen = self.world.summed(float(updater.loss_sum), int(updater.right), progress.seen)
        if not self.world.main:
            return
        saved = replace(progress, loss_sum=loss_sum, right=int(right), seen=int(seen))
        average = updater.average
        tensors: dict[str, object] = {
            "network": updater.network.state_dict(),
            "optimizer": updater.optimizer.state_dict(),
            "scaler": updater.scaler.state_dict(),
            "average": None if average is None else average.shadow.state_dict(),
            "spec": updater.network.spec.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "mean_image": self.preprocessing.mean_values,
            "fingerprint": self.material.fingerprint,
            "recipe": recipe_to_toml(self.recipe),
            "request": self.start.request.to_dict(),
            "earlier": identity_tensors(_as_identity(self.start.earlier)),
            "world": self.world.size,
        }
        save_checkpoint(self.folder, saved, tensors, self.recipe.keep_checkpoints)
        drop_replaced(self.folder)

    def _raise_stopped(self) -> NoReturn:
        again = resume_command(self.folder, self.world.size)
        raise StoppedError(f"stopped at step {self.progress.step:,} of {self.total:,}; {again} continues")

    def _check_finite(self) -> None:
        bad = self.world.largest(int(self.updater.bad_step))
        if bad >= 0:
            self._raise_diverged(bad)

    def _raise_diverged(self, step: int) -> None:
        # An old run that waits comes back, and takes the place of the new one's checkpoint.
        kept = [] if old_run_waits(self.folder) else checkpoints(self.folder)
        where = f"{kept[-1]} is the last good checkpoint" if kept else "no checkpoint was written yet"
        raise DivergedError(
            f"the loss or the weights became infinite at step {step} of {self.total}; {where}. "
            "Give a lower --learning-rate, or clip_norm in the recipe"
        )

    def _zero_sums(self) -> None:
        self.updater.loss_sum.zero_()
        self.updater.right.zero_()
        self.progress.seen, self.progress.train_seconds = 0, 0.0
        self._seen_before = 0

    def _show(self) -> None:
        progress = self.progress
        seen = self._seen_before + self.world.size * (progress.seen - self._seen_before)
        figures = {
            "loss": float(self.updater.loss_sum) / max(progress.seen, 1),
            "learning_rate": learning_rate(self.recipe, progress.step - 1, self.total),
            "images_per_second": seen / max(progress.train_seconds, 1e-9),
        }
        self.reporter.step(len(progress.history) + 1, progress.step, self.total, figures)
        if self.events is not None and progress.step % 20 == 0:
            self.events.scalars(progress.step, {f"step/{name}": value for name, value in figures.items()})

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and a polite kill end the run after the step under way; a second Ctrl-C ends it at once."""

        def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature is Python's)
            now = time.monotonic()
            if not self._stop_asked:
                self._stop_asked, self._asked_at = True, now
                return
            # torchrun hands a Ctrl-C on, which the terminal has sent to every process already.
            if self.world.size == 1 or now - self._asked_at > _SAME_SIGNAL_SECONDS:
                again = resume_command(self.folder, self.world.size)
                raise KeyboardInterrupt(f"stopped at once; {again} continues from the last checkpoint")

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are not ours to handle
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def resume_command(folder: Path, size: int) -> str:
    """What to type to continue a run of `size` processes."""
    command = f"skipway resume {shlex.quote(str(folder))}"
    return f"`torchrun --nproc-per-node {size} -m {command}`" if size > 1 else f"`{command}`"


def total_steps(recipe: Recipe, plan: Plan) -> int:
    """Updates of the whole run."""
    if recipe.pictures:
        return max(recipe.pictures // recipe.batch_size, 1)
    return recipe.epochs * plan.steps_per_epoch


def _as_identity(earlier: Seen | None) -> Identity:
    """The pictures that first weights had met, None for unknown ones, as a checkpoint keeps them."""
    return Identity(NONE_SEEN if earlier is None else earlier, NONE_SEEN, complete=earlier is not None)
