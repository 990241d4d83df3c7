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
    """A doubt where all running means are 0 and all variances are 1."""
    has_means = False
    for key, tensor in tensors.items():
        if key.endswith("running_mean"):
            has_means = True
            if tensor.any():
                return []
        if key.endswith("running_var") and (tensor != 1).any():
            return []
    if not has_means:
        return []
    text = (
        "all running means are 0 and all variances 1: saved before training, or the statistics were left out; "
        "`import --statistics DATA` recomputes them over your training pictures"
    )
    return [Doubt("statistics", text)]


def no_classifier(spec: Spec) -> list[Doubt]:
    """A doubt where the weights are those of the features alone, as for a start on other classes."""
    if spec.num_classes:
        return []
    text = (
        "the file has no classifier: `predict` and `evaluate` have no classes to name; "
        "`skipway train DATA --from MODEL` gives it one for your pictures"
    )
    return [Doubt("answers", text)]


def same_answer(bundle: Bundle) -> list[Doubt]:
    """A doubt where the network gives every picture the same class, or answers that are not finite.

    Such a network has lost its statistics, or sees pictures that are prepared otherwise than in its training.
    """
    if bundle.spec.num_classes < 2:
        return []
    logits = _logits_of_varied_pictures(bundle)
    if not logits.isfinite().all():
        return [Doubt("answers", "the network's answers are not finite: numbers in the file are broken")]
    answers = logits.argmax(1)
    first_answer = int(answers[0])
    if (answers != first_answer).any():
        return []
    label = bundle.labels[first_answer]
    rule = rule_text(bundle.preprocessing)
    text = f"{len(logits)} very different pictures are all '{label}': is --preprocessing right ({rule})?"
    has_statistics = any(key.endswith("running_var") for key in bundle.tensors)
    if has_statistics:
        text += " Or do the running statistics lag behind the weights: `import --statistics DATA` recomputes them"
    return [Doubt("answers", text)]


def _logits_of_varied_pictures(bundle: Bundle) -> Tensor:
    """Logits (pictures, classes).

    One picture at a time takes the least memory. It gives the same logits unless the network normalizes with the
    statistics of the batch.
    """
    network = bundle.network()
    rule = bundle.preprocessing
    batches = [rule.tensor(picture) for picture in varied_pictures(rule)]
    if isinstance(bundle.spec, StackSpec) and bundle.spec.norm.statistics != "running":
        whole_batch = torch.cat(batches)
        batches = [whole_batch]
    logits = []
    with torch.no_grad():
        for batch in batches:
            logits.append(network(batch))
    return torch.cat(logits)
