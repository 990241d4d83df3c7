"""Which of Caffe's three kinds of file some first bytes belong to: binary network, binary blob, or text."""

from __future__ import annotations

import re

from skipway.interchange.containers import protobuf
from skipway.interchange.containers.protobuf import Budget, Field, WireError
from skipway.interchange.foreign import describe_foreign

_NET = {1: "text", 2: "layers", 3: "text", 100: "layer"}  # what a NetParameter can start with
_NET_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 8, 100}
_NOISE = re.compile(r"(?:\s|#[^\n]*(?:\n|\Z))*")
_TEXT = re.compile(
    r"(?:name|input|input_dim|force_backward|debug_info)\s*:|(?:input_shape|state|layers?)\s*:?\s*[{<]|\Z"
)


def is_net(head: bytes) -> bool:
    """Whether they start a NetParameter: its name, an input or a layer, and text where text is due."""
    try:
        first = _first(head, 0)
        kind = _NET.get(first.number)
        if first.wire != protobuf.BYTES or kind is None:
            return False
        inner = head[first.start : first.end]
        if kind == "text":
            if first.end >= len(head):
                return bool(inner) and _is_text(inner)
            return _is_text(inner) and _first(head, first.end).number in _NET_NUMBERS
        begin = _first(inner, 0)
        if begin.wire != protobuf.BYTES or begin.number not in (1, 2, 3, 4):
            return False
        return _is_text(inner[begin.start : begin.end]) or (kind == "layers" and begin.number == 1)
    except WireError:
        return False


def is_blob(head: bytes) -> bool:
    """Whether they start a BlobProto: its shape, if that comes first, and then numbers."""
    at, sides = 0, 0
    try:
        while at < len(head):
            field = _first(head, at)
            if field.number in (5, 6, 8, 9):
                width = 4 if field.number in (5, 6) else 8
                packed = field.wire == protobuf.BYTES and (field.end - field.start) % width == 0
                return sides in (0, 4) and (packed or protobuf.WIDTH.get(field.wire) == width)
            if field.number == 7 and field.wire == protobuf.BYTES:
                sides = 4
            elif field.number in (1, 2, 3, 4) and field.wire == protobuf.VARINT:
                sides += 1
            else:
                return False
            at = field.end
    except WireError:
        return False
    return False


def is_text(head: bytes) -> bool:
    """Whether they start a network in the text form. They may end inside a letter or a comment."""
    if b"\0" in head:
        return False
    text = head.decode("utf-8", "ignore").removeprefix("\ufeff")
    noise = _NOISE.match(text)
    begin = noise.end() if noise else 0
    return bool(_TEXT.match(text, begin)) and (begin < len(text) or "#" in text)


def describe_bytes(head: bytes) -> str:
    """What a file of another kind is, and what to do about it."""
    if is_text(head):
        return (
            "a prototxt, which describes a network and has no weights; give its .caffemodel, and this with --prototxt"
        )
    if is_net(head):
        return "a .caffemodel, a network with its weights; give it as that"
    if is_blob(head):
        return "a .binaryproto, one blob such as a mean picture; give it with --mean beside the weights"
    return describe_foreign(head)


def _first(head: bytes, at: int) -> Field:
    """The field at `at` of bytes that may end inside its payload. Raises WireError."""
    tag, start = protobuf.varint(head, at, len(head))
    if tag & 7 == protobuf.BYTES:
        length, start = protobuf.varint(head, start, len(head))
        return Field(tag >> 3, tag & 7, start, start + length)
    return next(protobuf.fields(head, at, len(head), Budget(1)))


def _is_text(part: bytes) -> bool:
    return part.decode("utf-8", "replace").isprintable()
