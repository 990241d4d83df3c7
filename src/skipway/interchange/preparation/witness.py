"""The witness: of the networks and preparations that a file leaves open, the one that fits the file's own statistics.

Every candidate sees the same crops of photographs (`natural_pictures`), and `statistics_fit` measures it. The search
tries each preparation with the first network, then each network with the best preparation, and repeats until the result
stays the same. This works because a wrong preparation shows in the first layers, whichever network is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from PIL import Image

from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import ModelFileError
from skipway.interchange.doubt import Doubt
from skipway.interchange.mapping.open_settings import Setting, Variant, networks
from skipway.interchange.preparation.choosing import Choice, Preparation, Tried
from skipway.interchange.preparation.natural_pictures import crops, natural_pictures
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle
from skipway.weights.statistics_fit import CLOSE, CONVENTIONS, POOR, is_quick, pictures_for, statistics_fit

_MOST_ROUNDS = 3
_MOST_NAMED = 4  # networks that an error names
_SAME = 1e-6  # relative difference of figures that differ by nothing but the order of sums

Ranking = list[tuple[float, Variant]]


@dataclass(frozen=True)
class Witness:
    """Asks a file's statistics which candidate fits.

    Attributes:
        bundle: The weights, with the network and the preparation that stand first.
        settings: What names and shapes leave open of the network.
        preparation: The preparation that stands first.
        fixed: Whether the preparation is known.
        every: Try each preparation, also where one is given.
        folder: Photographs to ask with; None takes those of the package.
    """

    bundle: Bundle
    settings: Sequence[Setting]
    preparation: Preparation
    fixed: bool
    every: bool = False
    folder: Path | None = None

    def choose(self) -> Choice:
        """The candidate that fits. Raises ModelFileError where two networks are left open."""
        variants = networks(list(self.settings))
        if not self._can_speak:
            self._require_decided(variants, "its statistics say nothing")
            return Choice(self._spec(variants[0]), self.preparation, None, (), ())
        are_compared = len(variants) > 1
        trials = _Trials(self.bundle, self._photographs, {}, are_compared)
        network, preparation = self._search(trials, variants)
        network, doubts = self._decide(trials, variants, network, preparation)
        spec = self._spec(network)
        best = trials.measure(spec, network.words, preparation)
        tried = trials.sorted()
        doubts += self._rival_preparation(tried, network, best) or self._poor_fit(best)
        ranking = self._rank(trials, variants, preparation)
        return Choice(
            spec=spec,
            preparation=preparation,
            taken=best,
            tried=tried,
            doubts=tuple(doubts),
            pictures=pictures_for(spec, compared=are_compared),
            every=self.every,
            ranked=tuple((figure, variant.words) for figure, variant in ranking),
        )

    @cached_property
    def _photographs(self) -> tuple[Image.Image, ...]:
        return natural_pictures(self.folder)

    @property
    def _can_speak(self) -> bool:
        """Whether there are statistics, and not those that a network starts with."""
        if self.bundle.spec.in_channels not in {1, 3}:
            return False
        for key, tensor in self.bundle.tensors.items():
            if key.endswith("running_var") and bool((tensor != 1).any()):
                return True
        return False

    def _spec(self, variant: Variant) -> Spec:
        return self.bundle.spec.replaced(variant.fields)

    def _search(self, trials: _Trials, variants: Sequence[Variant]) -> tuple[Variant, Preparation]:
        """Ask one question at a time, until no answer changes."""
        network = variants[0]
        preparation = self.preparation
        for _ in range(_MOST_ROUNDS):
            before = network, preparation
            preparation = self._best_preparation(trials, network)
            _, network = self._rank(trials, variants, preparation)[0]
            if (network, preparation) == before:
                break
        if self.every:
            for variant in variants:
                self._best_preparation(trials, variant)
        return network, preparation

    def _best_preparation(self, trials: _Trials, network: Variant) -> Preparation:
        """The preparation that fits best; the first unless another is clearly better.

        The order of the channels is asked last, with the best preparation.
        """
        spec = self._spec(network)
        known = self._preparations(spec)

        def figure(preparation: Preparation) -> float:
            return trials.measure(spec, network.words, preparation).figure

        best = _better(self.preparation, min(known, key=figure), figure)
        if len(known) > 1 and spec.in_channels == 3:
            best = _better(best, replace(best, reversed=True), figure)
        if self.fixed:
            return self.preparation
        return best

    def _preparations(self, spec: Spec) -> list[Preparation]:
        """The first preparation, and the others unless comparing them would take long."""
        found = [self.preparation]
        if not self.every and not is_quick(spec):
            return found
        for name in CONVENTIONS:
            if not self._is_same(name, spec):
                found.append(Preparation(name, _preset(name)))
        return found

    def _is_same(self, name: str, spec: Spec) -> bool:
        """Whether a convention gives the counts of a picture the values that the first preparation gives them."""
        other = _preset(name)(spec)
        own = self.preparation.of(spec)
        if other.channels != own.channels or other.scale != own.scale:
            return False
        return other.mean == own.mean and other.std == own.std

    def _decide(
        self, trials: _Trials, variants: Sequence[Variant], best: Variant, preparation: Preparation
    ) -> tuple[Variant, list[Doubt]]:
        """The best network where it is clearly the best; else the first, where names speak for it.

        Raises ModelFileError where nothing speaks for any.
        """
        if len(variants) == 1:
            return best, []
        ranking = self._rank(trials, variants, preparation)
        (figure, network), (next_figure, next_network) = ranking[:2]
        apart = max(setting.clear for setting in self.settings if len(setting.variants) > 1)
        figures = f"{figure:.3f} ({network.words}) and {next_figure:.3f} ({next_network.words})"
        if figure <= POOR and next_figure >= apart * figure:
            return best, self._doubts_about_clear_fit(best != variants[0], figures)
        if figure > POOR:
            reason = f"its statistics fit none of them: {figures}"
        else:
            alike = sum(rival < apart * figure for rival, _ in ranking)
            reason = f"{alike} of them fit its statistics about alike, the best {figures}"
        self._require_decided(variants, reason)
        first = variants[0]
        text = f"its names leave open how it was built, and {reason}; taken as {first.words}; {self._fix()}"
        return first, [Doubt("network", text)]

    def _doubts_about_clear_fit(self, is_changed: bool, figures: str) -> list[Doubt]:  # noqa: FBT001
        doubts = []
        if is_changed and not any(setting.open for setting in self.settings):
            doubts.append(Doubt("network", f"its names would tell otherwise, but its statistics fit: {figures}"))
        for setting in self.settings:
            if setting.assumed:
                doubts.append(Doubt("network", setting.assumed))
        return doubts

    def _rank(self, trials: _Trials, variants: Sequence[Variant], preparation: Preparation) -> Ranking:
        """The networks by their figures, the best first, over the layers in which they differ.

        Before a shortcut's zeros all candidates are alike, and a median over layers that are equal would hide what
        follows.
        """
        tried = [trials.measure(self._spec(variant), variant.words, preparation) for variant in variants]
        differing = []
        for name in tried[0].layers:
            if not _are_same([candidate.layers[name] for candidate in tried]):
                differing.append(name)
        ranking = []
        for candidate, variant in zip(tried, variants, strict=True):
            names = differing or candidate.layers
            figure = median(candidate.layers[name] for name in names)
            ranking.append((figure, variant))
        return sorted(ranking, key=lambda pair: pair[0])

    def _require_decided(self, variants: Sequence[Variant], reason: str) -> None:
        if len(variants) == 1 or not any(setting.open for setting in self.settings):
            return
        names = "; ".join(variant.words for variant in variants[:_MOST_NAMED])
        raise ModelFileError(
            f"names and shapes leave {len(variants)} networks open ({names}) and {reason}; {self._fix()}, or "
            "--pictures DIR, photographs like those it was trained on"
        )

    def _fix(self) -> str:
        options = [setting.options for setting in self.settings]
        return f"decide with {' and '.join(options)}"

    def _poor_fit(self, best: Tried) -> list[Doubt]:
        if best.figure <= POOR:
            return []
        more = "" if self.every else ", --fit compares more"
        text = (
            f"its statistics do not fit natural pictures ({best.figure:.3g}; below {POOR} they would): it was trained "
            f"on other pictures, or on pictures prepared otherwise (here as by {best.preparation}), or is another "
            f"network; --pictures DIR asks with pictures like those of its training{more}"
        )
        return [Doubt("pictures", text)]

    def _rival_preparation(self, tried: Sequence[Tried], network: Variant, best: Tried) -> list[Doubt]:
        """A doubt where another preparation fits as well, or, where one is given, far better."""
        rivals = []
        for candidate in tried:
            if candidate.network == network.words and candidate != best and not candidate.is_reversed:
                rivals.append(candidate)
        if not rivals:
            return []
        rival = rivals[0]
        if min(best.figure, rival.figure) > POOR:
            return []
        if self.fixed:
            if rival.figure * CLOSE >= best.figure:
                return []
            text = f"its statistics fit {rival.preparation} better ({rival.figure:.3f} against {best.figure:.3f})"
            return [Doubt("pictures", text)]
        if rival.figure >= CLOSE * best.figure:
            return []
        text = (
            f"how its pictures were prepared is not known: its statistics fit {best.preparation} ({best.figure:.3f}, "
            f"taken) and {rival.preparation} ({rival.figure:.3f}) alike; --preprocessing {rival.preparation} takes that"
        )
        return [Doubt("pictures", text)]


@dataclass(frozen=True)
class _Trials:
    """Figures of candidates, each computed once. `compared` says that networks are compared, on more pictures."""

    bundle: Bundle
    photographs: Sequence[Image.Image]
    known: dict[tuple[str, str], Tried]
    compared: bool

    def measure(self, spec: Spec, network: str, preparation: Preparation) -> Tried:
        key = (network, preparation.words)
        if key not in self.known:
            rule = preparation.of(spec)
            count = pictures_for(spec, compared=self.compared)
            pictures = crops(self.photographs, count, rule.size)
            candidate = replace(self.bundle, spec=spec, preprocessing=rule)
            fit = statistics_fit(candidate.network(), rule, pictures)
            assert fit is not None
            self.known[key] = Tried(network, preparation.words, fit.figure, dict(fit.layers))
        return self.known[key]

    def sorted(self) -> tuple[Tried, ...]:
        """All candidates, the best first."""
        return tuple(sorted(self.known.values(), key=lambda candidate: candidate.figure))


def _preset(name: str) -> Callable[[Spec], Preprocessing]:
    def rule_for(spec: Spec) -> Preprocessing:
        return preset(name, spec.input_size, grey=spec.in_channels == 1)

    return rule_for


def _better(first: Preparation, other: Preparation, figure: Callable[[Preparation], float]) -> Preparation:
    """The other preparation where it fits, and clearly better than the first."""
    if figure(other) <= POOR and CLOSE * figure(other) < figure(first):
        return other
    return first


def _are_same(figures: Sequence[float]) -> bool:
    return max(figures) - min(figures) <= _SAME * max(figures)
