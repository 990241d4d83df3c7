"""What a user should look at once weights are imported: signs that numbers or pictures are not as they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from skipway.data.preprocessing import rule_text
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle
from skipway.weights.varied import varied_pictures


def untouched_statistics(tensors: Mapping[str, Tensor]) -> list[str]:
    """Running means of 0 and variances of 1 everywhere."""
    means = [value for key, value in tensors.items() if key.endswith("running_mean")]
    variances = [value for key, value in tensors.items() if key.endswith("running_var")]
    if means and all(not one.any() for one in means) and all(bool((one == 1).all()) for one in variances):
        return [
            "all running means are 0 and all variances 1: saved before training, or the statistics were left out; "
            "`import --statistics DATA` recomputes them over your training pictures"
        ]
    return []


def no_classifier(spec: Spec) -> list[str]:
    """Weights of the features alone, as for a start on other classes."""
    if spec.num_classes:
        return []
    return [
        "the file has no classifier: `predict` and `evaluate` have no classes to name; "
        "`skipway train DATA --from MODEL` gives it one for your pictures"
    ]


def same_answer(bundle: Bundle) -> list[str]:
    """A network that gives every picture the same class has lost its statistics, or sees the wrong pictures."""
    network, rule = bundle.network(), bundle.preprocessing
    if bundle.spec.num_classes < 2:
        return []
    pictures = [rule.tensor(picture) for picture in varied_pictures(rule)]
    alone = not isinstance(bundle.spec, StackSpec) or bundle.spec.norm.statistics == "running"
    with torch.no_grad():  # one at a time, which takes the least memory, where that is what each would get in a batch
        logits = torch.cat([network(one) for one in (pictures if alone else [torch.cat(pictures)])])
    if not logits.isfinite().all():
        return ["the network's answers are not finite: numbers in the file are broken"]
    answers = set(logits.argmax(1).tolist())
    if len(answers) == 1:
        name = bundle.labels[answers.pop()]
        told = f"{len(logits)} very different pictures are all '{name}': is --preprocessing right ({rule_text(rule)})?"
        if any(key.endswith("running_var") for key in bundle.tensors):
            told += " Or do the running statistics lag behind the weights: `import --statistics DATA` recomputes them"
        return [told]
    return []
