"""The witness: of the networks and preparations that a file leaves open, the one that fits the file's own statistics.

Every candidate is given the same crops of photographs (`natural_pictures`) and compared by `statistics_fit`. First the
preparations with the network that stands first, then the networks with the best preparation, and so on until nothing
changes: how counts are scaled shows in the first layers of any candidate, so that the two can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

from PIL import Image

from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import ModelFileError
from skipway.interchange.mapping.open_settings import Setting, Variant, networks
from skipway.interchange.preparation.natural_pictures import crops, natural_pictures
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle
from skipway.weights.statistics_fit import CLOSE, CONVENTIONS, POOR, is_quick, pictures_for, statistics_fit

_REVERSED = ", channels reversed"
_MOST_ROUNDS = 3
_ALIKE = 1e-6  # of figures that differ by nothing but the order of sums


@dataclass(frozen=True)
class Preparation:
    """A convention by name, and the rule that it is for a network. `reversed` gives the channels in the other order."""

    name: str
    rule: Callable[[Spec], Preprocessing]
    reversed: bool = False

    @property
    def words(self) -> str:
        """The name, with the order where it is not the convention's."""
        return f"{self.name}{_REVERSED}" if self.reversed else self.name

    def of(self, spec: Spec) -> Preprocessing:
        """The rule for a network's pictures."""
        rule = self.rule(spec)
        if not self.reversed or rule.channels == "L":
            return rule
        other: Literal["RGB", "BGR"] = "RGB" if rule.channels == "BGR" else "BGR"
        return replace(rule, channels=other, mean=rule.mean[::-1], std=rule.std[::-1])


@dataclass(frozen=True)
class Tried:
    """A candidate, its figure, and each normalization's."""

    network: str
    preparation: str
    figure: float
    layers: Mapping[str, float]

    @property
    def words(self) -> str:
        """Network and preparation."""
        return ", ".join(part for part in (self.network, self.preparation) if part)


@dataclass(frozen=True)
class Choice:
    """What was taken, all that was `tried`, the best first, and what the user should know. Nothing was tried where no
    statistics can speak: without normalizations, or with untouched ones. `ranked` are the networks, with figures over
    the layers in which they differ."""

    spec: Spec
    preparation: Preparation
    taken: Tried | None
    tried: tuple[Tried, ...]
    doubts: tuple[str, ...]
    pictures: int = 0
    every: bool = False
    ranked: tuple[tuple[float, str], ...] = ()

    def next_preparation(self) -> Tried | None:
        """The best other one of the network that was taken, in the same order of channels: that shows too little."""
        assert self.taken is not None
        turned = {self.taken.preparation, self.taken.preparation + _REVERSED}
        same = (one for one in self.tried if one.network == self.taken.network)
        return next((one for one in same if one.preparation not in turned), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; {} where nothing was tried."""
        if self.taken is None:
            return {}
        tried = [{"network": one.network, "preprocessing": one.preparation, "figure": one.figure} for one in self.tried]
        return {"figure": self.taken.figure, "pictures": self.pictures, "tried": tried}

    def describe(self) -> list[str]:
        """A line, or one for each candidate."""
        if self.taken is None:
            return []
        line = f"fit       {self.taken.figure:.3f} by its own statistics ({self.taken.words})"
        if len(self.ranked) > 1:
            (figure, words), (other, other_words) = self.ranked[:2]
            line += f"; where networks differ, {figure:.3f} ({words}), next network {other:.3f} ({other_words})"
        rival = self.next_preparation()
        if rival is not None:
            line += f"; next preparation {rival.figure:.3f} ({rival.preparation})"
        if not self.every:
            return [line]
        return [line, *(f"tried     {one.figure:10.3f}  {one.words}" for one in self.tried)]


@dataclass(frozen=True)
class Witness:
    """Asks a file's statistics. `folder` holds the photographs to ask with, None the carried ones; `every` tries each
    preparation, also where one is given."""

    bundle: Bundle
    settings: Sequence[Setting]
    preparation: Preparation
    fixed: bool  # the preparation is known
    every: bool = False
    folder: Path | None = None

    def choose(self) -> Choice:
        """The candidate that fits. Raises ModelFileError where two networks are left open."""
        variants = networks(list(self.settings))
        if not self._can_speak:
            self._require_decided(variants, "its statistics say nothing")
            return Choice(self._spec(variants[0]), self.preparation, None, (), ())
        trials = _Trials(self.bundle, self._photographs, {}, len(variants) > 1)
        network, preparation = self._descended(trials, variants)
        network, doubts = self._settled(trials, variants, network, preparation)
        best = trials.figure(self._spec(network), network.words, preparation)
        tried = trials.sorted()
        doubts += self._close(trials, network, best) or self._poor(best)
        count = pictures_for(self._spec(network), compared=len(variants) > 1)
        ranked = tuple((figure, one.words) for figure, one in self._ranked(trials, variants, preparation))
        return Choice(self._spec(network), preparation, best, tried, tuple(doubts), count, self.every, ranked)

    @cached_property
    def _photographs(self) -> tuple[Image.Image, ...]:
        return natural_pictures(self.folder)

    @property
    def _can_speak(self) -> bool:
        """Whether there are statistics, and not those that a network starts with."""
        stored = {key: value for key, value in self.bundle.tensors.items() if key.endswith("running_var")}
        touched = any(bool((variance != 1).any()) for variance in stored.values())
        return touched and self.bundle.spec.in_channels in {1, 3}

    def _spec(self, variant: Variant) -> Spec:
        return self.bundle.spec.replaced(variant.fields)

    def _descended(self, trials: _Trials, variants: Sequence[Variant]) -> tuple[Variant, Preparation]:
        """One question at a time, until no answer changes."""
        network, preparation = variants[0], self.preparation
        for _ in range(_MOST_ROUNDS):
            before = network, preparation
            preparation = self._best_preparation(trials, network)
            network = self._ranked(trials, variants, preparation)[0][1]
            if (network, preparation) == before:
                break
        if self.every:
            for variant in variants:
                self._best_preparation(trials, variant)
        return network, preparation

    def _best_preparation(self, trials: _Trials, network: Variant) -> Preparation:
        """The one that fits best; the first unless another is clearly better. The order of the channels is asked last,
        with the best."""
        spec = self._spec(network)
        known = self._preparations(trials, spec)

        def figure(one: Preparation) -> float:
            return trials.figure(spec, network.words, one).figure

        best = _better(self.preparation, min(known, key=figure), figure)
        if len(known) > 1 and spec.in_channels == 3:
            best = _better(best, replace(best, reversed=True), figure)
        return self.preparation if self.fixed else best

    def _preparations(self, trials: _Trials, spec: Spec) -> list[Preparation]:
        """The first, and the others where they are to be compared: not where that takes long."""
        first = [self.preparation]
        if not self.every and not trials.quick(spec):
            return first
        named = [Preparation(name, _preset(name)) for name in CONVENTIONS if not self._is_alike(name, spec)]
        return [*first, *named]

    def _is_alike(self, name: str, spec: Spec) -> bool:
        """Whether a convention gives the counts of a picture the values that the first preparation gives them."""
        other, own = _preset(name)(spec), self.preparation.of(spec)
        return all(getattr(other, part) == getattr(own, part) for part in ("channels", "scale", "mean", "std"))

    def _settled(
        self, trials: _Trials, variants: Sequence[Variant], best: Variant, preparation: Preparation
    ) -> tuple[Variant, list[str]]:
        """The best network where it is clearly the best; else the first, where names speak for it. Raises
        ModelFileError where nothing does."""
        if len(variants) == 1:
            return best, []
        ranked = self._ranked(trials, variants, preparation)
        (figure, network), (next_figure, other) = ranked[:2]
        apart = max(setting.clear for setting in self.settings if len(setting.variants) > 1)
        clear = figure <= POOR and next_figure >= apart * figure
        told = f"{figure:.3f} ({network.words}) and {next_figure:.3f} ({other.words})"
        if clear:
            changed = best != variants[0] and not any(setting.open for setting in self.settings)
            doubts = [f"its names would tell otherwise, but its statistics fit: {told}"] if changed else []
            return best, [*doubts, *(setting.assumed for setting in self.settings if setting.assumed)]
        alike = sum(rival < apart * figure for rival, _ in ranked)
        said = f"{alike} of them fit its statistics about alike, the best {told}"
        if figure > POOR:
            said = f"its statistics fit none of them: {told}"
        self._require_decided(variants, said)
        first = variants[0]
        return first, [f"its names leave open how it was built, and {said}; taken as {first.words}; {self._fix()}"]

    def _ranked(
        self, trials: _Trials, variants: Sequence[Variant], preparation: Preparation
    ) -> list[tuple[float, Variant]]:
        """The networks by their figures over the layers that the question bears on: before a shortcut's zeros all
        candidates are alike, and a median over layers that are equal would hide what follows."""
        tried = [trials.figure(self._spec(one), one.words, preparation) for one in variants]
        bearing = [name for name in tried[0].layers if not _alike([one.layers[name] for one in tried])]
        figures = [median(one.layers[name] for name in bearing or one.layers) for one in tried]
        return sorted(zip(figures, variants, strict=True), key=lambda pair: pair[0])

    def _require_decided(self, variants: Sequence[Variant], why: str) -> None:
        if len(variants) > 1 and any(setting.open for setting in self.settings):
            names = "; ".join(variant.words for variant in variants[:4])
            raise ModelFileError(
                f"names and shapes leave {len(variants)} networks open ({names}) and {why}; {self._fix()}, or "
                "--pictures DIR, photographs like those it was trained on"
            )

    def _fix(self) -> str:
        return f"decide with {' and '.join(setting.options for setting in self.settings)}"

    def _poor(self, best: Tried) -> list[str]:
        if best.figure <= POOR:
            return []
        more = "" if self.every else ", --fit compares more"
        return [
            f"its statistics do not fit natural pictures ({best.figure:.3g}; below {POOR} they would): it was trained "
            f"on other pictures, or on pictures prepared otherwise (here as by {best.preparation}), or is another "
            f"network; --pictures DIR asks with pictures like those of its training{more}"
        ]

    def _close(self, trials: _Trials, network: Variant, best: Tried) -> list[str]:
        """Another preparation that fits as well, or, where one is given, far better."""
        others = [one for one in trials.sorted() if one.network == network.words and one != best]
        others = [one for one in others if _REVERSED not in one.preparation]
        if not others or min(best.figure, others[0].figure) > POOR:
            return []
        rival = others[0]
        if self.fixed:
            if rival.figure * CLOSE >= best.figure:
                return []
            return [f"its statistics fit {rival.preparation} better ({rival.figure:.3f} against {best.figure:.3f})"]
        if rival.figure >= CLOSE * best.figure:
            return []
        return [
            f"how its pictures were prepared is not known: its statistics fit {best.preparation} ({best.figure:.3f}, "
            f"taken) and {rival.preparation} ({rival.figure:.3f}) alike; --preprocessing {rival.preparation} takes that"
        ]


@dataclass(frozen=True)
class _Trials:
    """Figures of candidates, each computed once."""

    bundle: Bundle
    photographs: Sequence[Image.Image]
    known: dict[tuple[str, str], Tried]
    compared: bool

    def figure(self, spec: Spec, network: str, preparation: Preparation) -> Tried:
        key = (network, preparation.words)
        if key not in self.known:
            rule = preparation.of(spec)
            cuts = crops(self.photographs, pictures_for(spec, compared=self.compared), rule.size)
            fit = statistics_fit(replace(self.bundle, spec=spec, preprocessing=rule).network(), rule, cuts)
            assert fit is not None
            self.known[key] = Tried(network, preparation.words, fit.figure, dict(fit.layers))
        return self.known[key]

    def quick(self, spec: Spec) -> bool:
        """Whether a candidate takes little enough for many to be tried."""
        return is_quick(spec)

    def sorted(self) -> tuple[Tried, ...]:
        return tuple(sorted(self.known.values(), key=lambda one: one.figure))


def _preset(name: str) -> Callable[[Spec], Preprocessing]:
    return lambda spec: preset(name, spec.input_size, grey=spec.in_channels == 1)


def _better(first: Preparation, other: Preparation, figure: Callable[[Preparation], float]) -> Preparation:
    """The other one where it fits, and clearly better."""
    return other if figure(other) <= POOR and CLOSE * figure(other) < figure(first) else first


def _alike(figures: Sequence[float]) -> bool:
    return max(figures) - min(figures) <= _ALIKE * max(figures)
