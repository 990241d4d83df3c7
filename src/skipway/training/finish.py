"""After the last step: statistics, the final evaluation, the model file, the report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skipway.data.dataset import Split
from skipway.data.loading import evaluation_batches
from skipway.errors import RunError
from skipway.evaluation.metrics import Evaluation, evaluate_network
from skipway.evaluation.report import Report, write_report
from skipway.machine import versions
from skipway.models.network import Network
from skipway.reporting import agreeing, counted, joined_lines
from skipway.training.loop import EVALUATION_BATCH, Loop
from skipway.training.recipe import recipe_to_toml
from skipway.training.statistics import recompute_statistics
from skipway.weights.bundle import Bundle, load_bundle, save_bundle


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves, and how good the kept weights are."""

    folder: Path
    model: Path  # the model file
    report: Path  # the report for people, HTML
    split: str  # the pictures of `evaluation`: `val`, or `train` when nothing was held out
    evaluation: Evaluation
    epochs: int  # that were trained
    images_per_second: float  # in training, the median over the epochs
    seconds: float  # of training and validation
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.folder),
            "model": str(self.model),
            "report": str(self.report),
            "split": self.split,
            "top1": self.evaluation.top1,
            "top5": self.evaluation.top5,
            "loss": self.evaluation.loss,
            "ece": self.evaluation.ece,
            "count": self.evaluation.count,
            "epochs": self.epochs,
            "images_per_second": self.images_per_second,
            "seconds": self.seconds,
            "remarks": list(self.remarks),
        }

    def describe(self) -> str:
        """The outcome as text, and commands that use it."""
        found = self.evaluation
        part = "held out" if self.split == "val" else "trained on"
        figures = f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%}, loss {found.loss:.4f}"
        pictures = f"{counted(found.count, 'picture')} {part}"
        speed = f"{self.images_per_second:,.0f} pictures/s"
        model = shlex.quote(str(self.model))
        folder = shlex.quote(str(self.folder))
        commands = (
            f"skipway predict {model} PICTURE...",
            f"skipway evaluate {model} DATA",
            f"tensorboard --logdir {folder}",
        )
        lines = (
            f"{figures} on {pictures}; {speed}",
            f"model  {model}",
            f"report {self.report}",
            "next:  " + "   |   ".join(commands),
        )
        return joined_lines(lines)


def finish(loop: Loop) -> RunResult:
    """Settle the kept weights, judge them, write model.safetensors and report.html.

    Raises RunError where the file of the best epoch is gone, and StorageError where a file cannot be written.
    """
    remarks = _loop_remarks(loop)
    network = _kept_network(loop)
    if loop.recipe.recompute_statistics:
        remark = _with_new_statistics(loop, network)
        loop.reporter.say(remark)
        remarks.append(remark)
    evaluation = _final(loop, network)
    result = _result(loop, evaluation, remarks)
    if loop.world.main:
        save_bundle(result.model, _bundle(loop, network, result))
        write_report(result.report, _report(loop, network, result))
    loop.world.barrier()
    return result


def _with_new_statistics(loop: Loop, network: Network) -> str:
    """Recompute the running statistics of a network, and return a remark on what that changed."""
    before = _final(loop, network)
    recompute_statistics(
        network,
        loop.material.train,
        loop.preprocessing,
        loop.world.device,
        loop.recipe.batch_size,
        loop.workers,
    )
    after = _final(loop, network)
    name, _ = _judging_split(loop)
    return (
        f"batch statistics recomputed over the training pictures: {name} top-1 "
        f"{before.top1:.2%} before, {after.top1:.2%} after"
    )


def _kept_network(loop: Loop) -> Network:
    """The best epoch's network from its file, or the last epoch's from memory."""
    if loop.recipe.keep == "last" or loop.material.val is None:
        return loop.updater.judged
    loop.world.barrier()
    file = loop.folder / "model.safetensors"
    if not file.exists():
        raise RunError(f"{file}, which held the best epoch, is gone; restore it, or train again in another --out")
    network = load_bundle(file).network()
    # `to` is untyped for memory formats
    return network.to(loop.world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _judging_split(loop: Loop) -> tuple[str, Split]:
    """The pictures that judge the kept weights, with the name of their part: those held out, or the training's."""
    if loop.material.val is None:
        return "train", loop.material.train
    return "val", loop.material.val


def _final(loop: Loop, network: Network) -> Evaluation:
    """The evaluation on all pictures, on every rank: the report needs each single answer."""
    _, split = _judging_split(loop)
    batches = evaluation_batches(
        split,
        loop.preprocessing,
        batch_size=EVALUATION_BATCH,
        workers=loop.workers,
        pin=loop.world.device.type == "cuda",
    )
    return evaluate_network(
        network,
        batches,
        loop.preprocessing,
        loop.material.labels,
        loop.world.device,
        distributed=False,
    )


def _loop_remarks(loop: Loop) -> list[str]:
    """What a reader of the result should know about the weights and the pictures."""
    progress = loop.progress
    remarks: list[str] = []
    if loop.material.val is None:
        remarks.append("no pictures were held out: the figures are those of the training pictures")
    elif loop.recipe.keep == "best":
        remarks.append(f"the weights are those of epoch {progress.best_epoch}, the best of {len(progress.history)}")
    else:
        remarks.append("the weights are those of the last epoch")
    remarks += loop.start.identity.leaks()
    if loop.updater.average is not None:
        remarks.append(f"the weights are a moving average (decay {loop.recipe.ema})")
    bad_count = len(loop.material.bad)
    if bad_count:
        pictures = counted(bad_count, "unreadable picture")
        verb = agreeing(bad_count, "was", "were")
        pronoun = agreeing(bad_count, "it", "them")
        remarks.append(f"{pictures} {verb} left out; bad_files.csv lists {pronoun}")
    return remarks


def _result(loop: Loop, evaluation: Evaluation, remarks: list[str]) -> RunResult:
    history = loop.progress.history
    split_name, _ = _judging_split(loop)
    images_per_second = 0.0
    if history:
        speeds = sorted(row["images_per_second"] for row in history)
        images_per_second = speeds[len(speeds) // 2]
    return RunResult(
        folder=loop.folder,
        model=loop.folder / "model.safetensors",
        report=loop.folder / "report.html",
        split=split_name,
        evaluation=evaluation,
        epochs=len(history),
        images_per_second=images_per_second,
        seconds=loop.progress.total_seconds,
        remarks=tuple(remarks),
    )


def _bundle(loop: Loop, network: Network, result: RunResult) -> Bundle:
    """The contents of the model file."""
    evaluation = result.evaluation
    provenance = {
        "tool": "skipway train",
        "data": loop.start.request.data,
        "fingerprint": loop.material.fingerprint,
        "recipe": loop.recipe.name,
        "seed": loop.start.request.seed,
        "epochs": result.epochs,
        **versions(loop.world.device),
    }
    metrics = {
        "split": result.split,
        "count": evaluation.count,
        "top1": evaluation.top1,
        "top5": evaluation.top5,
        "loss": evaluation.loss,
        "ece": evaluation.ece,
    }
    return Bundle(
        spec=network.spec,
        preprocessing=loop.preprocessing,
        labels=loop.material.labels,
        tensors=dict(network.state_dict()),
        provenance=provenance,
        metrics=metrics,
        identity=loop.start.identity,
    )


def _report(loop: Loop, network: Network, result: RunResult) -> Report:
    """The contents of the report."""
    material = loop.material
    held_out = 0 if material.val is None else len(material.val)
    trained = counted(len(material.train), "picture")
    classes = counted(len(material.labels), "class")
    facts = {
        "network": network.spec.name,
        "data": f"{loop.start.request.data}: {trained} to train, {held_out:,} held out, {classes}",
        "training time": f"{result.seconds:.1f} s for {counted(result.epochs, 'epoch')}",
        "pictures per second": f"{result.images_per_second:,.1f} in training (median over epochs)",
        "seed": str(loop.start.request.seed),
        **versions(loop.world.device),
    }
    _, split = _judging_split(loop)
    return Report(
        title=f"{network.spec.name} on {material.name}",
        split_name=result.split,
        evaluation=result.evaluation,
        split=split,
        history=loop.progress.history,
        preprocessing=loop.preprocessing,
        recipe_toml=recipe_to_toml(loop.recipe),
        facts=facts,
        remarks=result.remarks,
    )
