"""The loop: steps, epochs, checkpoints. Its state is in Progress and Updater, so it can start at any step."""

from __future__ import annotations

import time
from dataclasses import replace
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
from skipway.training.stopping import StoppedError, StopRequest, resume_command
from skipway.training.tensorboard import Events
from skipway.training.updater import Updater
from skipway.weights.bundle import Bundle, save_bundle
from skipway.weights.identity import identity_tensors

EVALUATION_BATCH = 128
_GPU_CHECK_STEPS = 20
_EVENT_STEPS = 20


class Loop:
    """One run in one process. `run` trains to the end or raises; `progress` says how far it came."""

    def __init__(self, start: Start, updater: Updater, plan: Plan, reporter: Reporter, workers: int) -> None:
        self.start = start
        self.updater = updater
        self.plan = plan
        self.reporter = reporter
        self.workers = workers
        self.folder = start.folder
        self.recipe = start.recipe
        self.material = start.material
        self.preprocessing = start.preprocessing
        self.progress = start.progress
        self.world = updater.world
        self.total = total_steps(start.recipe, plan)
        self.epochs = -(-self.total // plan.steps_per_epoch)
        self.events: Events | None = None
        self._val_memory = None
        if self.material.val is not None:
            self._val_memory = memory_for(self.material.val, self.preprocessing)
        self._stop = StopRequest(self.folder, self.world.size)
        self._seen_before = 0

    def run(self) -> None:
        """Train from `progress.step` to the end. Raises DivergedError, StoppedError, DataError, StorageError."""
        # A resume gives the sums of all ranks to the main one: these pictures were not seen at this rank's own rate.
        self._seen_before = self.progress.seen
        if self.world.main:
            for folder in (self.folder, self.folder / "checkpoints"):
                remove_leftovers(folder)
            self.events = Events(self.folder, self.progress.step)
            if self.progress.step == 0:
                self.events.graph(self.updater.judged)
        try:
            with self._stop.listening():
                self._steps()
        finally:
            if self.events is not None:
                self.events.close()

    def _steps(self) -> None:
        """All steps that are left, each with what is due after it."""
        progress = self.progress
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
        self.updater.train_mode()
        began = time.perf_counter()
        for batch in batches:
            if progress.stopped_early:
                break
            self.updater.update(batch, progress.step)
            progress.step += 1
            progress.seen += len(batch.targets)
            seconds = time.perf_counter() - began
            progress.train_seconds += seconds
            progress.total_seconds += seconds
            self._after_step()
            self._finish_due_epoch()
            began = time.perf_counter()
        # A signal during the last validation: the last checkpoint is written, the report is not.
        if self.world.any(self._stop.asked):
            self._raise_stopped()

    def _after_step(self) -> None:
        """Check and show the figures, end the run where that was asked for, and save where a checkpoint is due."""
        step = self.progress.step
        # Asking a GPU or the other ranks at every step would stall them.
        check_due = self.world.device.type != "cuda" or step % _GPU_CHECK_STEPS == 0
        if check_due:
            self._check_finite()
            self._show()
        if self.world.size == 1:
            stop = self._stop.asked
        else:
            stop = check_due and self.world.any(self._stop.asked)
        if stop:
            self.save()
            self._raise_stopped()
        interval = self.recipe.checkpoint_steps
        if interval and step % interval == 0:
            self.save()

    def _finish_due_epoch(self) -> None:
        """Validate, record and save once an epoch's last step is done; also after a resume from that very step."""
        progress = self.progress
        per_epoch = self.plan.steps_per_epoch
        at_end = progress.step == self.total
        if progress.step == 0:
            return
        if progress.step % per_epoch != 0 and not at_end:
            return
        finished_epochs = -(-progress.step // per_epoch)
        if len(progress.history) >= finished_epochs:
            return
        self._check_finite()
        began = time.perf_counter()
        evaluation = self.judge(self.updater.judged)
        self._record(evaluation)
        progress.total_seconds += time.perf_counter() - began
        self._zero_sums()
        if self.recipe.checkpoint_steps == 0 or at_end or progress.stopped_early:
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
        """Add an epoch to the history, keep its weights if they are the best, and stop early where that is due."""
        progress = self.progress
        row = self._row(evaluation)
        progress.history.append(row)
        self.reporter.epoch(row, self.epochs)
        if evaluation is not None:
            self._note_best(evaluation)
        patience = self.recipe.early_stopping
        epochs_since_best = len(progress.history) - progress.best_epoch
        if patience and epochs_since_best >= patience:
            progress.stopped_early = True
            self.reporter.say(f"no better epoch in {patience}: stopping early")
        self._write_epoch(row)

    def _row(self, evaluation: Evaluation | None) -> dict[str, float]:
        """The row of the history for the epoch that has just ended."""
        progress = self.progress
        loss_sum, right, seen = self._summed_over_ranks()
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
            row["val_loss"] = evaluation.loss
            row["val_top1"] = evaluation.top1
            row["val_top5"] = evaluation.top5
        return row

    def _note_best(self, evaluation: Evaluation) -> None:
        """Note the newest epoch, and write its weights, if it is the best: by top-1, then by loss."""
        progress = self.progress
        newest = (evaluation.top1, -evaluation.loss)
        best = (progress.best_top1, -progress.best_loss)
        is_better = newest > best  # not `<=` turned round: a loss that is no number is never better
        if not is_better:
            return
        progress.best_epoch = len(progress.history)
        progress.best_top1 = evaluation.top1
        progress.best_loss = evaluation.loss
        if self.recipe.keep == "best":
            self.keep(self.updater.judged, {"top1": evaluation.top1, "loss": evaluation.loss})

    def _write_epoch(self, row: dict[str, float]) -> None:
        """Write metrics.csv and the epoch's events, on the main rank."""
        if self.events is None:
            return
        write_metrics(self.folder / "metrics.csv", self.progress.history)
        step = self.progress.step
        network = self.updater.judged
        scalars = dict(row)
        del scalars["epoch"], scalars["step"]
        self.events.scalars(step, scalars)
        self.events.histograms(step, network)
        shown = self.material.train if self.material.val is None else self.material.val
        self.events.examples(step, network, shown, self.preprocessing, self.material.labels)

    def keep(self, network: Network, metrics: dict[str, object]) -> None:
        """Write model.safetensors with this network's weights, on the main rank. Raises StorageError."""
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
        """Write a checkpoint, on the main rank; every rank must call it.

        The weights must be finite: a run that diverged keeps its last good checkpoint. Raises DivergedError and
        StorageError.
        """
        updater = self.updater
        finite = all_finite(list(updater.network.state_dict().values()))
        if self.world.any(not finite):  # running statistics may be those of one rank alone
            self._raise_diverged(self.progress.step)
        loss_sum, right, seen = self._summed_over_ranks()
        if not self.world.main:
            return
        progress = replace(self.progress, loss_sum=loss_sum, right=int(right), seen=int(seen))
        average = None
        if updater.average is not None:
            average = updater.average.shadow.state_dict()
        tensors: dict[str, object] = {
            "network": updater.network.state_dict(),
            "optimizer": updater.optimizer.state_dict(),
            "scaler": updater.scaler.state_dict(),
            "average": average,
            "spec": updater.network.spec.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "mean_image": self.preprocessing.mean_values,
            "fingerprint": self.material.fingerprint,
            "recipe": recipe_to_toml(self.recipe),
            "request": self.start.request.to_dict(),
            "earlier": identity_tensors(_as_identity(self.start.earlier)),
            "world": self.world.size,
        }
        save_checkpoint(self.folder, progress, tensors, self.recipe.keep_checkpoints)
        drop_replaced(self.folder)

    def _summed_over_ranks(self) -> list[float]:
        """Loss, right answers and pictures of the epoch under way, each summed over the ranks."""
        loss_sum = float(self.updater.loss_sum)
        right = int(self.updater.right)
        return self.world.summed(loss_sum, right, self.progress.seen)

    def _raise_stopped(self) -> NoReturn:
        command = resume_command(self.folder, self.world.size)
        raise StoppedError(f"stopped at step {self.progress.step:,} of {self.total:,}; {command} continues")

    def _check_finite(self) -> None:
        """Raises DivergedError where the loss of a step on any rank was not finite."""
        bad_step = self.world.largest(int(self.updater.bad_step))
        if bad_step >= 0:
            self._raise_diverged(bad_step)

    def _raise_diverged(self, step: int) -> NoReturn:
        last_good = "no checkpoint was written yet"
        # Where an old run waits, it comes back in the place of the new one's checkpoints.
        if not old_run_waits(self.folder):
            kept = checkpoints(self.folder)
            if kept:
                last_good = f"{kept[-1]} is the last good checkpoint"
        raise DivergedError(
            f"the loss or the weights became infinite at step {step} of {self.total}; {last_good}. "
            "Give a lower --learning-rate, or clip_norm in the recipe"
        )

    def _zero_sums(self) -> None:
        """Begin the sums of the next epoch."""
        self.updater.loss_sum.zero_()
        self.updater.right.zero_()
        self.progress.seen = 0
        self.progress.train_seconds = 0.0
        self._seen_before = 0

    def _show(self) -> None:
        """Report the figures of the epoch under way, and write them as events now and then."""
        progress = self.progress
        own_seen = progress.seen - self._seen_before
        seen = self._seen_before + self.world.size * own_seen
        figures = {
            "loss": float(self.updater.loss_sum) / max(progress.seen, 1),
            "learning_rate": learning_rate(self.recipe, progress.step - 1, self.total),
            "images_per_second": seen / max(progress.train_seconds, 1e-9),
        }
        epoch = len(progress.history) + 1
        self.reporter.step(epoch, progress.step, self.total, figures)
        if self.events is not None and progress.step % _EVENT_STEPS == 0:
            scalars = {f"step/{name}": value for name, value in figures.items()}
            self.events.scalars(progress.step, scalars)


def total_steps(recipe: Recipe, plan: Plan) -> int:
    """Updates of the whole run."""
    if recipe.pictures:
        return max(recipe.pictures // recipe.batch_size, 1)
    return recipe.epochs * plan.steps_per_epoch


def _as_identity(earlier: Seen | None) -> Identity:
    """The pictures that the first weights were trained on, None for unknown ones, as a checkpoint keeps them."""
    if earlier is None:
        return Identity(NONE_SEEN, NONE_SEEN, complete=False)
    return Identity(earlier, NONE_SEEN, complete=True)
