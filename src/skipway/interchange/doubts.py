"""What a user should look at once weights are imported: signs that numbers or pictures are not as they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from skipway.data.preprocessing import rule_text
from skipway.interchange.doubt import Doubt
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle
from skipway.weights.varied import varied_pictures


def untouched_statistics(tensors: Mapping[str, Tensor]) -> list[Doubt]:
    """Running means of 0 and variances of 1 everywhere."""
    means = [tensor for key, tensor in tensors.items() if key.endswith("running_mean")]
    variances = [tensor for key, tensor in tensors.items() if key.endswith("running_var")]
    if not means:
        return []
    if any(mean.any() for mean in means):
        return []
    if any((variance != 1).any() for variance in variances):
        return []
    text = (
        "all running means are 0 and all variances 1: saved before training, or the statistics were left out; "
        "`import --statistics DATA` recomputes them over your training pictures"
    )
    return [Doubt("statistics", text)]


def no_classifier(spec: Spec) -> list[Doubt]:
    """Weights of the features alone, as for a start on other classes."""
    if spec.num_classes:
        return []
    text = (
        "the file has no classifier: `predict` and `evaluate` have no classes to name; "
        "`skipway train DATA --from MODEL` gives it one for your pictures"
    )
    return [Doubt("answers", text)]


def same_answer(bundle: Bundle) -> list[Doubt]:
    """A network that gives every picture the same class has lost its statistics, or sees the wrong pictures."""
    if bundle.spec.num_classes < 2:
        return []
    logits = _logits_of_varied_pictures(bundle)
    if not logits.isfinite().all():
        return [Doubt("answers", "the network's answers are not finite: numbers in the file are broken")]
    answers = set(logits.argmax(1).tolist())
    if len(answers) > 1:
        return []
    label = bundle.labels[answers.pop()]
    rule = rule_text(bundle.preprocessing)
    text = f"{len(logits)} very different pictures are all '{label}': is --preprocessing right ({rule})?"
    if any(key.endswith("running_var") for key in bundle.tensors):
        text += " Or do the running statistics lag behind the weights: `import --statistics DATA` recomputes them"
    return [Doubt("answers", text)]


def _logits_of_varied_pictures(bundle: Bundle) -> Tensor:
    """Logits (pictures, classes).

    One picture at a time takes the least memory, and gives the same unless the network normalizes with the
    statistics of the batch.
    """
    network = bundle.network()
    rule = bundle.preprocessing
    batches = [rule.tensor(picture) for picture in varied_pictures(rule)]
    if isinstance(bundle.spec, StackSpec) and bundle.spec.norm.statistics != "running":
        batches = [torch.cat(batches)]
    with torch.no_grad():
        return torch.cat([network(batch) for batch in batches])
