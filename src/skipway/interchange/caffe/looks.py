"""Which of Caffe's three kinds of file some first bytes belong to: binary network, binary blob, or text."""

from __future__ import annotations

import re

from skipway.interchange.containers import protobuf
from skipway.interchange.containers.protobuf import Budget, WireError, WireField
from skipway.interchange.foreign import describe_foreign

# The fields that a NetParameter can start with: name, layers of the old form, input, layers of the new form.
_NET = {1: "text", 2: "layers", 3: "text", 100: "layer"}
_NET_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 8, 100}  # its fields
_LAYER_NUMBERS = {1, 2, 3, 4}  # the fields of bytes that a layer can start with
# The numbers of a BlobProto and their width in bytes: data, diff, double_data, double_diff.
_BLOB_WIDTHS = {5: 4, 6: 4, 8: 8, 9: 8}
_BLOB_SHAPE = 7
_LEGACY_SIDES = {1, 2, 3, 4}  # num, channels, height and width: the shape before 2015
_NOISE = re.compile(r"(?:\s|#[^\n]*(?:\n|\Z))*")
_TEXT = re.compile(
    r"(?:name|input|input_dim|force_backward|debug_info)\s*:|(?:input_shape|state|layers?)\s*:?\s*[{<]|\Z"
)


def is_net(head: bytes) -> bool:
    """Whether a file with these first bytes is a NetParameter: its name, an input or a layer comes first."""
    try:
        return _starts_net(head)
    except WireError:
        return False


def _starts_net(head: bytes) -> bool:
    """As `is_net`. Raises WireError where the bytes are no protocol buffer."""
    first = _first(head, 0)
    kind = _NET.get(first.number)
    if first.wire != protobuf.BYTES or kind is None:
        return False
    inner = head[first.start : first.end]
    if kind != "text":
        return _starts_layer(inner, old=kind == "layers")
    if not _is_text(inner):
        return False
    if first.end >= len(head):
        return bool(inner)
    second = _first(head, first.end)
    return second.number in _NET_NUMBERS


def _starts_layer(inner: bytes, *, old: bool) -> bool:
    """Whether these are the first bytes of a layer. Raises WireError where they are no protocol buffer."""
    begin = _first(inner, 0)
    if begin.wire != protobuf.BYTES or begin.number not in _LAYER_NUMBERS:
        return False
    if old and begin.number == 1:  # a message, which holds the settings of a layer of the first form
        return True
    name = inner[begin.start : begin.end]
    return _is_text(name)


def is_blob(head: bytes) -> bool:
    """Whether a file with these first bytes is a BlobProto: its shape, if that comes first, and then numbers."""
    try:
        return _starts_blob(head)
    except WireError:
        return False


def _starts_blob(head: bytes) -> bool:
    """As `is_blob`. Raises WireError where the bytes are no protocol buffer."""
    at = 0
    sides = 0
    while at < len(head):
        field = _first(head, at)
        if field.number in _BLOB_WIDTHS:
            if sides not in (0, 4):
                return False
            width = _BLOB_WIDTHS[field.number]
            return _holds_numbers(field, width)
        if field.number == _BLOB_SHAPE and field.wire == protobuf.BYTES:
            sides = 4
        elif field.number in _LEGACY_SIDES and field.wire == protobuf.VARINT:
            sides += 1
        else:
            return False
        at = field.end
    return False


def _holds_numbers(field: WireField, width: int) -> bool:
    """Whether a field holds numbers of `width` bytes: many in one piece, or one."""
    if field.wire == protobuf.BYTES:
        size = field.end - field.start
        return size % width == 0
    return protobuf.WIDTH.get(field.wire) == width


def is_text(head: bytes) -> bool:
    """Whether a file with these first bytes is a network in the text form. They may end within a letter or comment."""
    if b"\0" in head:
        return False
    text = head.decode("utf-8", "ignore").removeprefix("\ufeff")
    noise = _NOISE.match(text)
    begin = noise.end() if noise else 0
    if begin == len(text) and "#" not in text:  # nothing but spaces
        return False
    content = _TEXT.match(text, begin)
    return content is not None


def describe_bytes(head: bytes) -> str:
    """What a file with these first bytes is, and what to do about it, where another kind of file was due."""
    if is_text(head):
        return (
            "a prototxt, which describes a network and has no weights; give its .caffemodel, and this with --prototxt"
        )
    if is_net(head):
        return "a .caffemodel, a network with its weights; give it as that"
    if is_blob(head):
        return "a .binaryproto, one blob such as a mean picture; give it with --mean beside the weights"
    return describe_foreign(head)


def _first(head: bytes, at: int) -> WireField:
    """The field at `at` of bytes that may end within its payload.

    Raises WireError where the bytes are no protocol buffer.
    """
    tag, start = protobuf.varint(head, at, len(head))
    number = tag >> 3
    wire = tag & 7
    if wire == protobuf.BYTES:
        length, start = protobuf.varint(head, start, len(head))
        return WireField(number, wire, start, start + length)
    following = protobuf.fields(head, at, len(head), Budget(1))
    return next(following)


def _is_text(part: bytes) -> bool:
    """Whether bytes are printable text. Damaged UTF-8 counts as text: the bytes may end within a letter."""
    text = part.decode("utf-8", "replace")
    return text.isprintable()
