"""What cannot fit is refused before it is tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipway.errors import RecipeError
from skipway.models.catalog import find_spec
from skipway.training.memory import least_of, require_memory
from skipway.training.recipe import Recipe
from skipway.training.run import train


def test_the_bound_by_hand() -> None:
    spec = find_spec("alexnet.mnist").replaced({"input_size": 8, "hidden": (32,)})
    weights = 640 + 73_856 + 295_168 + 256 * 32 + 32 + 330
    # Outputs of conv1 to conv3 after pooling, fc4, pre_logits, logits.
    units = 64 * 16 + 128 * 4 + 256 + 32 + 32 + 10
    assert least_of(spec, Recipe()).bytes_for(4) == 4 * (4 * weights + 4 * units)
    assert least_of(spec, Recipe(optimizer="sgd", accumulation=2)).bytes_for(4) == 4 * (3 * weights + 2 * units)


def test_too_little_memory_names_the_options() -> None:
    with pytest.raises(RecipeError, match=r"GiB or more.*lower --image-size"):
        require_memory(find_spec("resnet_v1_50.signs"), Recipe(), available=2**20)
    require_memory(find_spec("resnet_v1_50.signs"), Recipe(), available=2**34)


def test_a_giant_picture_size_is_refused_at_once(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RecipeError, match="--image-size"):
        train(arrays, model="resnet_v1_18", image_size=14_000, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_largest_batch_that_could_fit_is_named_and_passes(accumulation: int) -> None:
    spec, recipe = find_spec("resnet_v1_50.signs"), Recipe(batch_size=100_000, accumulation=accumulation)
    with pytest.raises(RecipeError, match=r"--batch-size \d+ is the most that could fit") as caught:
        require_memory(spec, recipe, available=2**30)
    largest = int(str(caught.value).split("--batch-size ")[1].split()[0])
    require_memory(spec, recipe.replaced(batch_size=largest), available=2**30)
    with pytest.raises(RecipeError):
        require_memory(spec, recipe.replaced(batch_size=largest + accumulation), available=2**30)
