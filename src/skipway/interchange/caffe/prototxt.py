"""Caffe's network descriptions in protocol buffers' text form: `.prototxt`, of any of the three forms of layers.

The text is parsed without recursion, so that no depth of braces can exhaust the stack, and sizes are bounded.

Why not protobuf's `text_format` with a descriptor made of the schema (tried with protobuf 7.36.2, docs/log.md)? It
bounds the depth of known messages only and skips unknown ones by recursion (RecursionError). It drops the fields that
the schema lacks, which are kept here. Its time grows with the square of a line's length (300,000 fields in one line,
1.5 MB: 179 s; here refused after 4.3 s). It refuses `- 4`, and its import takes 0.1 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from skipway.errors import ModelFileError, ReadError
from skipway.files import read_bounded
from skipway.interchange.caffe.looks import describe_bytes, is_text
from skipway.interchange.caffe.message import MAX_FIELDS, Message, Symbol, TextError, conform, last
from skipway.interchange.caffe.net import check_names, in_phase, inputs_of, layers_of
from skipway.interchange.caffe.upgrade import form_of, upgraded
from skipway.interchange.containers.protobuf import WireError
from skipway.interchange.foreign import checked_head
from skipway.interchange.source import Notes, WeightFile

MAX_BYTES = 4 << 20  # the deepest published ResNet takes 200 kB
MAX_DEPTH = 32
_MAX_NUMBER = 64  # digits
# The kinds of layer that have weights.
LEARNING = {"Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Bias", "PReLU", "Embed"}

_TOKEN = re.compile(
    r"""(?P<space>(?:[\s]+|\#[^\n]*)+)
      | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
      | (?P<word>-?[A-Za-z_]\w*)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<mark>[{}<>:\[\],;])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(rb"\\([xX][0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_CLOSING = {"{": "}", "<": ">"}


class _Token(NamedTuple):
    """A part of a text: its kind, `number`, `word`, `text`, `mark` or `end`, its letters, and its line, from 1."""

    kind: str
    text: str
    line: int


def read(path: Path, phase: str = "TEST") -> WeightFile:
    """The layers of the network in that phase, TEST or TRAIN; no arrays.

    `notes` has `name`, `inputs` (blob names to shapes, () where it does not say) and `form`. Raises ModelFileError.
    """
    head = checked_head(path)
    if not is_text(head):
        raise ModelFileError(f"{path} is no prototxt but {describe_bytes(head)}")
    try:
        encoded = read_bounded(path, MAX_BYTES)
        text = encoded.decode("utf-8-sig", "backslashreplace")
        net = parse(text)
        return _source(path, net, phase)
    except ReadError as error:
        raise ModelFileError(f"{path} {error.what}; {error.fix}") from None
    except (TextError, WireError) as error:
        raise ModelFileError(f"{path} is no prototxt of a network ({error}); correct it or copy it again") from None


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001
    """Whether these are the first bytes of a `.prototxt`, whatever its name."""
    return is_text(head)


def _source(path: Path, net: Message, phase: str) -> WeightFile:
    conform(net, "NetParameter")
    messages = []
    for message in upgraded(net):
        # A text can have weights, too. No published one has them, and a description does not need them.
        without_weights = {name: values for name, values in message.items() if name != "blobs"}
        messages.append(without_weights)
    layers = [layer for layer in layers_of(messages) if in_phase(layer, phase)]
    if not layers:
        raise WireError(f"it has no layers in phase {phase}")
    warnings = check_names(layers, LEARNING)
    notes: Notes = {"name": str(last(net, "name", "")), "form": form_of(net), "inputs": inputs_of(net, layers)}
    return WeightFile("prototxt", path, {}, tuple(layers), warnings, notes)


def parse(text: str) -> Message:
    """Any message in the text form: names to the list of their values, messages as such mappings, bare words as Symbol.

    Raises TextError where the text is not of that form or passes MAX_FIELDS or MAX_DEPTH.
    """
    root: Message = {}
    # The messages that are open, from the outermost, each with the mark that ends it.
    stack: list[tuple[Message, str]] = [(root, "")]
    tokens = _Tokens(text)
    fields = 0
    token = tokens.take()
    while token.kind != "end":
        message, closing = stack[-1]
        if token.kind == "mark" and token.text == closing:
            stack.pop()
            tokens.skip(",;")
        else:
            fields += 1
            _check_field(token, fields)
            values = message.setdefault(token.text, [])
            opened = _field(tokens, token, values, depth=len(stack))
            if opened is not None:
                stack.append(opened)
        token = tokens.take()
    if len(stack) > 1:
        raise TextError(f"line {token.line}: the text ends within {len(stack) - 1} open braces")
    return root


def _check_field(token: _Token, fields: int) -> None:
    """Raises TextError where the token is no name of a field, or names one field more than MAX_FIELDS."""
    if token.kind != "word" or token.text.startswith("-"):
        raise TextError(f"line {token.line}: {_shown(token)} where the name of a field is due")
    if fields > MAX_FIELDS:
        raise TextError(f"line {token.line}: more than {MAX_FIELDS:,} fields")


def _field(tokens: _Tokens, name: _Token, values: list[Any], *, depth: int) -> tuple[Message, str] | None:
    """Read what follows the name of a field and add it to the field's `values`.

    Returns a message that begins here, and the mark that ends it; None for a field of any other kind. Raises TextError
    for what cannot follow a name, and for a message within `depth` others where MAX_DEPTH allows no more.
    """
    colon = tokens.skip(":")
    if tokens.next.kind == "mark" and tokens.next.text in _CLOSING:
        if depth > MAX_DEPTH:
            raise TextError(f"line {name.line}: more than {MAX_DEPTH} braces within each other")
        brace = tokens.take()
        message: Message = {}
        values.append(message)
        return message, _CLOSING[brace.text]
    if not colon:
        raise TextError(f"line {name.line}: {_shown(tokens.next)} after {name.text[:40]!r}, where : or {{ is due")
    if tokens.skip("["):
        listed = _list(tokens)
        values.extend(listed)
    else:
        value = _value(tokens)
        values.append(value)
    tokens.skip(",;")
    return None


class _Tokens:
    """The tokens of a text. `next` is the token that `take` gives next."""

    def __init__(self, text: str) -> None:
        self._found = _tokens(text)
        self.next = next(self._found)

    def take(self) -> _Token:
        """The next token, which is passed then. At the end of the text it is the last token again and again."""
        token = self.next
        self.next = next(self._found, token)
        return token

    def skip(self, marks: str) -> bool:
        """Whether the next token is one of these marks; it is taken then."""
        found = self.next.kind == "mark" and self.next.text in marks
        if found:
            self.take()
        return found


def _tokens(text: str) -> Iterator[_Token]:
    """The tokens of a text, without spaces and comments, and then its end."""
    at = 0
    line = 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at : at + 20].splitlines()[0]
            raise TextError(f"line {line}: {rest!r} is no part of this form")
        kind = str(match.lastgroup)
        found = match.group()
        if kind != "space":
            yield _Token(kind, found, line)
        line += found.count("\n")
        at = match.end()
    yield _Token("end", "", line)


def _list(tokens: _Tokens) -> list[Any]:
    """The values of a list, whose opening bracket is taken already."""
    values: list[Any] = []
    while not tokens.skip("]"):
        value = _value(tokens)
        values.append(value)
        following = tokens.next
        if len(values) > MAX_FIELDS:
            raise TextError(f"line {following.line}: more than {MAX_FIELDS:,} values in a list")
        if not tokens.skip(",") and following.text != "]":
            raise TextError(f"line {following.line}: {_shown(following)} in a list, where , or ] is due")
    return values


def _value(tokens: _Tokens) -> Any:
    token = tokens.take()
    if token.kind == "number":
        return _number(token)
    if token.kind == "text":
        pieces = [token.text[1:-1]]
        while tokens.next.kind == "text":  # texts side by side are one text
            following = tokens.take()
            pieces.append(following.text[1:-1])
        joined = "".join(pieces)
        return _unescaped(joined)
    if token.kind == "word":
        word = token.text.lower()
        if word.lstrip("-") in ("inf", "infinity", "nan"):
            return float(word)
        if not word.startswith("-"):
            return Symbol(token.text)
    raise TextError(f"line {token.line}: {_shown(token)} where a value is due")


def _number(token: _Token) -> int | float:
    digits = "".join(token.text.split())
    if len(digits) > _MAX_NUMBER:
        raise TextError(f"line {token.line}: a number of {len(digits)} digits")
    bare = digits.removeprefix("-")
    value = _unsigned(bare)
    if isinstance(value, int) and value >> 63:
        raise TextError(f"line {token.line}: {digits} has more than 64 bits")
    if digits.startswith("-"):
        return -value
    return value


def _unsigned(digits: str) -> int | float:
    """A number without a sign: hexadecimal after 0x, octal after 0, as in C."""
    if digits[:2].lower() == "0x":
        return int(digits, 16)
    if not digits.isdigit():
        return float(digits.rstrip("fF"))
    base = 10
    if digits.startswith("0") and digits.strip("01234567") == "":
        base = 8
    return int(digits, base)


def _unescaped(text: str) -> str:
    """A text without its escapes. They stand for bytes: two or three of them may be one letter."""
    if "\\" not in text:
        return text
    escaped = text.encode("utf-8", "surrogatepass")
    plain = _ESCAPE.sub(_escaped_byte, escaped)
    return plain.decode("utf-8", "backslashreplace")


def _escaped_byte(match: re.Match[bytes]) -> bytes:
    """The byte that an escape stands for: by its hexadecimal or octal number, or by a letter."""
    code = match.group(1)
    if code[:1] in b"xX" and len(code) > 1:
        number = int(code[1:], 16)
        return bytes([number])
    if code.isdigit() and code[:1] < b"8":
        number = int(code, 8)
        return bytes([number & 0xFF])
    return _ESCAPES.get(code, code)


def _shown(token: _Token) -> str:
    if token.kind == "end":
        return "the end of the text"
    return repr(token.text[:40])
