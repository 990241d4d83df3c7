"""After the last step: statistics, the final judgement, the model file, the report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

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
    """What a finished run leaves: its folder, model file and report, and how the kept weights did.

    `split` names the pictures that `evaluation` is about: `val`, or `train` when nothing was held out.
    """

    folder: Path
    model: Path
    report: Path
    split: str
    evaluation: Evaluation
    epochs: int
    images_per_second: float
    seconds: float
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
        """The outcome as text, and what to type next."""
        found, model, folder = self.evaluation, shlex.quote(str(self.model)), shlex.quote(str(self.folder))
        name = "held out" if self.split == "val" else "trained on"
        lines = (
            f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%}, loss {found.loss:.4f} "
            f"on {counted(found.count, 'picture')} {name}; "
            f"{self.images_per_second:,.0f} pictures/s",
            f"model  {model}",
            f"report {self.report}",
            f"next:  skipway predict {model} PICTURE...   |   skipway evaluate {model} DATA   |   "
            f"tensorboard --logdir {folder}",
        )
        return joined_lines(lines)


def finish(loop: Loop) -> RunResult:
    """Settle the kept weights, judge them, write model.safetensors and report.html."""
    remarks = _loop_remarks(loop)
    network = _kept_network(loop)
    if loop.recipe.recompute_statistics:
        before = _final(loop, network)
        recompute_statistics(
            network, loop.material.train, loop.preprocessing, loop.world.device, loop.recipe.batch_size, loop.workers
        )
        after = _final(loop, network)
        remark = (
            f"batch statistics recomputed over the training pictures: {_split_name(loop)} top-1 "
            f"{before.top1:.2%} before, {after.top1:.2%} after"
        )
        loop.reporter.say(remark)
        remarks.append(remark)
    evaluation = _final(loop, network)
    result = _result(loop, evaluation, remarks)
    if loop.world.main:
        save_bundle(result.model, _bundle(loop, network, result))
        write_report(result.report, _report(loop, network, result))
    loop.world.barrier()
    return result


def _kept_network(loop: Loop) -> Network:
    """The best epoch's network from its file, or the last one's from memory."""
    if loop.recipe.keep == "last" or loop.material.val is None:
        return loop.updater.judged
    loop.world.barrier()
    file = loop.folder / "model.safetensors"
    if not file.exists():
        raise RunError(f"{file}, which held the best epoch, is gone; restore it, or train again in another --out")
    # `to` is untyped for memory formats
    return load_bundle(file).network().to(loop.world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _split_name(loop: Loop) -> str:
    return "train" if loop.material.val is None else "val"


def _final(loop: Loop, network: Network) -> Evaluation:
    """All pictures on every rank: the report needs each single answer."""
    split = loop.material.train if loop.material.val is None else loop.material.val
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
    progress, remarks = loop.progress, []
    if loop.material.val is None:
        remarks.append("no pictures were held out: the figures are those of the training pictures")
    elif loop.recipe.keep == "best":
        remarks.append(f"the weights are those of epoch {progress.best_epoch}, the best of {len(progress.history)}")
    else:
        remarks.append("the weights are those of the last epoch")
    remarks += loop.start.identity.leaks()
    if loop.updater.average is not None:
        remarks.append(f"the weights are a moving average (decay {loop.recipe.ema})")
    if loop.material.bad:
        bad = len(loop.material.bad)
        left_out = f"{counted(bad, 'unreadable picture')} {agreeing(bad, 'was', 'were')} left out"
        remarks.append(f"{left_out}; bad_files.csv lists {agreeing(bad, 'it', 'them')}")
    return remarks


def _result(loop: Loop, evaluation: Evaluation, remarks: list[str]) -> RunResult:
    history = loop.progress.history
    rates = sorted(row["images_per_second"] for row in history)
    return RunResult(
        folder=loop.folder,
        model=loop.folder / "model.safetensors",
        report=loop.folder / "report.html",
        split=_split_name(loop),
        evaluation=evaluation,
        epochs=len(history),
        images_per_second=rates[len(rates) // 2] if rates else 0.0,
        seconds=loop.progress.total_seconds,
        remarks=tuple(remarks),
    )


def _bundle(loop: Loop, network: Network, result: RunResult) -> Bundle:
    evaluation = result.evaluation
    return Bundle(
        spec=network.spec,
        preprocessing=loop.preprocessing,
        labels=loop.material.labels,
        tensors=dict(network.state_dict()),
        provenance={
            "tool": "skipway train",
            "data": loop.start.request.data,
            "fingerprint": loop.material.fingerprint,
            "recipe": loop.recipe.name,
            "seed": loop.start.request.seed,
            "epochs": result.epochs,
            **versions(loop.world.device),
        },
        metrics={
            "split": result.split,
            "count": evaluation.count,
            "top1": evaluation.top1,
            "top5": evaluation.top5,
            "loss": evaluation.loss,
            "ece": evaluation.ece,
        },
        identity=loop.start.identity,
    )


def _report(loop: Loop, network: Network, result: RunResult) -> Report:
    material = loop.material
    held = 0 if material.val is None else len(material.val)
    facts = {
        "network": network.spec.name,
        "data": (
            f"{loop.start.request.data}: {counted(len(material.train), 'picture')} to train, "
            f"{held:,} held out, {counted(len(material.labels), 'class')}"
        ),
        "training time": f"{result.seconds:.1f} s for {counted(result.epochs, 'epoch')}",
        "pictures per second": f"{result.images_per_second:,.1f} in training (median over epochs)",
        "seed": str(loop.start.request.seed),
        **versions(loop.world.device),
    }
    return Report(
        title=f"{network.spec.name} on {material.name}",
        split_name=result.split,
        evaluation=result.evaluation,
        split=material.train if material.val is None else material.val,
        history=loop.progress.history,
        preprocessing=loop.preprocessing,
        recipe_toml=recipe_to_toml(loop.recipe),
        facts=facts,
        remarks=result.remarks,
    )
