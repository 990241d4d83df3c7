"""Caffe's two files written without Caffe: the prototxt as text, the caffemodel as protobuf's wire format.

Of Caffe's schema (src/caffe/proto/caffe.proto) only what a trained network needs, with these field numbers:
NetParameter { name = 1; layer = 100 }, LayerParameter { name = 1; type = 2; bottom = 3; top = 4; blobs = 7 },
BlobProto { data = 5; shape = 7 }, BlobShape { dim = 1 }.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_BYTES = 2  # wire type of texts, messages and packed numbers: a length, then so many bytes


@dataclass(frozen=True)
class Layer:
    """One layer: `settings` is its text in the prototxt, `blobs` its weights. In place where `top` is `bottoms[0]`."""

    name: str
    kind: str
    bottoms: tuple[str, ...]
    top: str
    settings: str = ""
    blobs: tuple[np.ndarray, ...] = ()


def prototxt(shape: tuple[int, ...], layers: Iterable[Layer]) -> bytes:
    """The network as text, with one input called `data`."""
    lines = ['name: "net"', 'input: "data"', f"input_shape {{ {' '.join(f'dim: {side}' for side in shape)} }}"]
    for layer in layers:
        bottoms = " ".join(f'bottom: "{bottom}"' for bottom in layer.bottoms)
        lines.append(
            f'layer {{ name: "{layer.name}" type: "{layer.kind}" {bottoms} top: "{layer.top}" {layer.settings} }}'
        )
    return "\n".join(lines).encode()


def caffemodel(layers: Iterable[Layer]) -> bytes:
    """The weights, as Caffe saves them."""
    return _text(1, "net") + b"".join(_field(100, _layer(layer)) for layer in layers)


def _layer(layer: Layer) -> bytes:
    texts = [_text(1, layer.name), _text(2, layer.kind), *(_text(3, one) for one in layer.bottoms), _text(4, layer.top)]
    return b"".join([*texts, *(_field(7, _blob(blob)) for blob in layer.blobs)])


def _blob(values: np.ndarray) -> bytes:
    dims = b"".join(_varint(side) for side in values.shape)
    return _field(5, np.ascontiguousarray(values, dtype="<f4").tobytes()) + _field(7, _field(1, dims))


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all but the last."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
