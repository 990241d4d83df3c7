"""Layers in NumPy, float64, each written from its formula, and the chain rule through them.

Maps are (N, C, H, W), kernels (depth, C / groups, k, k), dense weights (width, features). Each layer appends to a tape
what it computed and, for each of its inputs, how a gradient of the output becomes one of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.parity.formula import parameter

Pullback = Callable[[np.ndarray], np.ndarray]


@dataclass(eq=False)
class Value:
    """What a layer computed, and the derivative of the loss by it once `Tape.backward` ran."""

    data: np.ndarray
    gradient: np.ndarray | None = None
    sources: list[tuple[Value, Pullback]] = field(default_factory=list)


class Tape:
    """Parameters by their keys, running statistics, and every value in the order in which it was computed."""

    def __init__(self, *, training: bool = False, recording: bool = False) -> None:
        self.training = training
        self.recording = recording
        self.parameters: dict[str, Value] = {}
        self.statistics: dict[str, np.ndarray] = {}
        self.values: list[Value] = []

    def parameter(self, key: str, *shape: int) -> Value:
        assert key not in self.parameters, key
        self.parameters[key] = Value(parameter(key, shape).astype(np.float64))
        return self.parameters[key]

    def statistic(self, key: str, channels: int) -> np.ndarray:
        assert key not in self.statistics, key
        self.statistics[key] = parameter(key, (channels,)).astype(np.float64)
        return self.statistics[key]

    def value(self, data: np.ndarray, *sources: tuple[Value, Pullback]) -> Value:
        made = Value(data)
        if self.recording:
            made.sources = list(sources)
            self.values.append(made)
        return made

    def backward(self, output: Value, gradient: np.ndarray) -> None:
        """Fill the gradients of all that `output` depends on, its own being given: the last computed comes first."""
        output.gradient = gradient
        for made in reversed(self.values):
            if made.gradient is not None:
                for source, pullback in made.sources:
                    part = pullback(made.gradient)
                    source.gradient = part if source.gradient is None else source.gradient + part


def relu(tape: Tape, x: Value) -> Value:
    return tape.value(np.maximum(x.data, 0), (x, lambda g: g * (x.data > 0)))


def tanh(tape: Tape, x: Value) -> Value:
    y = np.tanh(x.data)
    return tape.value(y, (x, lambda g: g * (1 - y**2)))


def sigmoid(tape: Tape, x: Value) -> Value:
    y = 1 / (1 + np.exp(-x.data))
    return tape.value(y, (x, lambda g: g * y * (1 - y)))


def add(tape: Tape, a: Value, b: Value) -> Value:
    return tape.value(a.data + b.data, (a, lambda g: g), (b, lambda g: g))


def multiply(tape: Tape, a: Value, b: Value) -> Value:
    return tape.value(a.data * b.data, (a, lambda g: g * b.data), (b, lambda g: g * a.data))


def one_minus(tape: Tape, x: Value) -> Value:
    return tape.value(1 - x.data, (x, lambda g: -g))


def flatten(tape: Tape, x: Value) -> Value:
    """(N, C, H, W) -> (N, C * H * W), the channel slowest."""
    return tape.value(x.data.reshape(len(x.data), -1), (x, lambda g: g.reshape(x.data.shape)))


def global_mean(tape: Tape, x: Value) -> Value:
    """(N, C, H, W) -> (N, C)."""
    pixels = x.data.shape[2] * x.data.shape[3]
    spread = np.ones(x.data.shape[2:]) / pixels
    return tape.value(x.data.mean((2, 3)), (x, lambda g: g[:, :, None, None] * spread))


def dense(tape: Tape, x: Value, key: str, width: int) -> Value:
    """y = W x + b."""
    w, b = tape.parameter(f"{key}.weight", width, x.data.shape[1]), tape.parameter(f"{key}.bias", width)
    return tape.value(
        x.data @ w.data.T + b.data,
        (x, lambda g: g @ w.data),
        (w, lambda g: g.T @ x.data),
        (b, lambda g: g.sum(0)),
    )


def conv2d(
    tape: Tape, x: Value, key: str, depth: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1,
    bias: bool = False,
) -> Value:  # fmt: skip
    """y[o, p] = b[o] + sum over c, i, j of w[o, c, i, j] x[c, stride p + (i, j) - padding], zero outside the map.

    With groups, the first part of the outputs sees only the first part of the channels, and so on.
    """
    w = tape.parameter(f"{key}.weight", depth, x.data.shape[1] // groups, kernel, kernel)
    windows = _Windows(np.pad(x.data, ((0, 0), (0, 0), (padding, padding), (padding, padding))), kernel, stride)
    n, channels = x.data.shape[:2]
    side = windows.sides
    kernels = w.data.reshape(groups, depth // groups, channels // groups, kernel, kernel)

    def grouped(maps: np.ndarray) -> np.ndarray:
        return maps.reshape(n, groups, maps.shape[1] // groups, -1)

    y = np.zeros((n, groups, depth // groups, side[0] * side[1]))
    for i, j in windows.offsets:
        y += kernels[:, :, :, i, j] @ grouped(windows.at(i, j))

    def to_input(g: np.ndarray) -> np.ndarray:
        parts = {
            (i, j): kernels[:, :, :, i, j].transpose(0, 2, 1) @ grouped(g) for i, j in windows.offsets
        }  # fmt: skip
        spread = windows.spread({at: part.reshape(n, channels, *side) for at, part in parts.items()})
        return spread[:, :, padding : padding + x.data.shape[2], padding : padding + x.data.shape[3]]

    def to_weight(g: np.ndarray) -> np.ndarray:
        gradient = np.zeros_like(kernels)
        for i, j in windows.offsets:
            gradient[:, :, :, i, j] = (grouped(g) @ grouped(windows.at(i, j)).transpose(0, 1, 3, 2)).sum(0)
        return gradient.reshape(w.data.shape)

    y = y.reshape(n, depth, *side)
    if not bias:
        return tape.value(y, (x, to_input), (w, to_weight))
    b = tape.parameter(f"{key}.bias", depth)
    return tape.value(
        y + b.data[:, None, None], (x, to_input), (w, to_weight), (b, lambda g: g.sum((0, 2, 3)))
    )  # fmt: skip


class _Windows:
    """The kernel's windows on a padded map: at each offset inside the kernel, the pixels that they see."""

    def __init__(self, padded: np.ndarray, kernel: int, stride: int) -> None:
        self.padded = padded
        self.stride = stride
        self.sides = tuple((side - kernel) // stride + 1 for side in padded.shape[2:])
        self.offsets = [(i, j) for i in range(kernel) for j in range(kernel)]

    def at(self, i: int, j: int) -> np.ndarray:
        """(N, C, windows down, windows across)."""
        return self.padded[self._pixels(i, j)]

    def spread(self, parts: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
        """The reverse of `at`: what belongs to each offset, added up where the windows overlap."""
        total = np.zeros_like(self.padded)
        for (i, j), part in parts.items():
            total[self._pixels(i, j)] += part
        return total

    def _pixels(self, i: int, j: int) -> tuple[slice, ...]:
        down, across = ((count - 1) * self.stride + 1 for count in self.sides)
        return slice(None), slice(None), slice(i, i + down, self.stride), slice(j, j + across, self.stride)


def max_pool(tape: Tape, x: Value, kernel: int, stride: int, *, partial: bool = False) -> Value:
    """The largest value of each window. `partial`: a last window that reaches over the edge counts (Caffe)."""
    over = [-(side - kernel) % stride if partial else 0 for side in x.data.shape[2:]]
    edges = ((0, 0), (0, 0), (0, over[0]), (0, over[1]))
    windows = _Windows(np.pad(x.data, edges, constant_values=-np.inf), kernel, stride)
    y = np.full((*x.data.shape[:2], *windows.sides), -np.inf)
    for i, j in windows.offsets:
        y = np.maximum(y, windows.at(i, j))

    def to_input(g: np.ndarray) -> np.ndarray:
        # Equal values do not share: the first of them gets it all.
        parts, free = {}, np.ones(y.shape, dtype=bool)
        for i, j in windows.offsets:
            wins = free & (windows.at(i, j) == y)
            parts[i, j], free = g * wins, free & ~wins
        return windows.spread(parts)[:, :, : x.data.shape[2], : x.data.shape[3]]

    return tape.value(y, (x, to_input))


def response_norm(tape: Tape, x: Value, *, size: int, alpha: float, beta: float, k: float) -> Value:
    """y[c] = x[c] / (k + alpha / size * sum over |d - c| <= size // 2 of x[d]^2)^beta (Caffe: alpha is divided)."""
    channels = x.data.shape[1]

    def neighbours(values: np.ndarray) -> np.ndarray:
        total = np.zeros_like(values)
        for c in range(channels):
            total[:, c] = values[:, max(0, c - size // 2) : c + size // 2 + 1].sum(1)
        return total

    scale = k + alpha / size * neighbours(x.data**2)

    def to_input(g: np.ndarray) -> np.ndarray:
        return g * scale**-beta - 2 * beta * alpha / size * x.data * neighbours(g * x.data * scale ** (-beta - 1))

    return tape.value(x.data * scale**-beta, (x, to_input))


def batch_norm(tape: Tape, x: Value, key: str, *, eps: float = 1e-5, keep: float = 0.9) -> Value:
    """y = gamma (x - mean) / sqrt(variance + eps) + beta (Ioffe, Szegedy 2015).

    Statistics are the running ones, or in training the batch's (variance divided by m), which then move the running
    ones: keep * old + (1 - keep) * new, with the unbiased variance (divided by m - 1).
    """
    channels = x.data.shape[1]
    gamma, beta = tape.parameter(f"{key}.weight", channels), tape.parameter(f"{key}.bias", channels)
    mean = tape.statistic(f"{key}.running_mean", channels)
    variance = tape.statistic(f"{key}.running_var", channels)
    if tape.training:
        m = x.data.size / channels
        batch_mean, batch_variance = x.data.mean((0, 2, 3)), x.data.var((0, 2, 3))
        tape.statistics[f"{key}.running_mean"] = keep * mean + (1 - keep) * batch_mean
        tape.statistics[f"{key}.running_var"] = keep * variance + (1 - keep) * batch_variance * m / (m - 1)
        mean, variance = batch_mean, batch_variance
    deviation = np.sqrt(variance + eps)[:, None, None]
    normalized = (x.data - mean[:, None, None]) / deviation

    def to_input(g: np.ndarray) -> np.ndarray:
        g = g * gamma.data[:, None, None]
        if tape.training:  # the mean and the variance depend on x, too
            along = (g * normalized).mean((0, 2, 3), keepdims=True)
            g = g - g.mean((0, 2, 3), keepdims=True) - normalized * along
        return g / deviation

    return tape.value(
        gamma.data[:, None, None] * normalized + beta.data[:, None, None],
        (x, to_input),
        (gamma, lambda g: (g * normalized).sum((0, 2, 3))),
        (beta, lambda g: g.sum((0, 2, 3))),
    )


def zero_padded(tape: Tape, x: Value, depth: int, stride: int, *, appended: bool = False) -> Value:
    """Option A: every `stride`-th pixel, and zeros in the new channels: half of them before the old ones, or all of
    them `appended`."""
    n, channels, height, width = x.data.shape
    first = 0 if appended else (depth - channels) // 2
    y = np.zeros((n, depth, -(-height // stride), -(-width // stride)))
    y[:, first : first + channels] = x.data[:, :, ::stride, ::stride]

    def to_input(g: np.ndarray) -> np.ndarray:
        spread = np.zeros_like(x.data)
        spread[:, :, ::stride, ::stride] = g[:, first : first + channels]
        return spread

    return tape.value(y, (x, to_input))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, classes) -> probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
