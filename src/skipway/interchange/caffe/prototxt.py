"""Caffe's network descriptions in protocol buffers' text form: `.prototxt`, of any of the three forms of layers.

The text is parsed without recursion, so that no depth of braces can exhaust the stack, and sizes are bounded.

Why not protobuf's `text_format` with a descriptor made of caffe_schema (tried with protobuf 7.36.2, docs/log.md): it
bounds the depth of known messages only and skips unknown ones by recursion (RecursionError), drops the fields that
caffe_schema lacks, which are kept here, takes time in the square of a line's length (300,000 fields in one line, 1.5
MB: 179 s; here refused after 4.3 s), refuses `- 4`, and its import takes 0.1 s.
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
from skipway.interchange.source import Notes, Source

MAX_BYTES = 4 << 20  # the deepest published ResNet takes 200 kB
MAX_DEPTH = 32
_MAX_NUMBER = 64  # digits
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
    kind: str
    text: str
    line: int


def read(path: Path, phase: str = "TEST") -> Source:
    """The layers of the network in that phase, TEST or TRAIN; no arrays. `notes` has `name`, `inputs` (blob names to
    shapes, () where it does not say) and `form`. Raises ModelFileError."""
    head = checked_head(path)
    if not is_text(head):
        raise ModelFileError(f"{path} is no prototxt but {describe_bytes(head)}")
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig", "backslashreplace")
        return _source(path, parse(text), phase)
    except ReadError as error:
        raise ModelFileError(f"{path} {error.what}; {error.fix}") from None
    except (TextError, WireError) as error:
        raise ModelFileError(f"{path} is no prototxt of a network ({error}); correct it or copy it again") from None


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001
    """Whether these are the first bytes of a `.prototxt`, whatever its name."""
    return is_text(head)


def _source(path: Path, net: Message, phase: str) -> Source:
    conform(net, "NetParameter")
    # Weights can be spelt out in a text; nobody does, and a description has none.
    messages = [{name: values for name, values in layer.items() if name != "blobs"} for layer in upgraded(net)]
    layers = [layer for layer in layers_of(messages) if in_phase(layer, phase)]
    if not layers:
        raise WireError(f"it has no layers in phase {phase}")
    warnings = check_names(layers, LEARNING)
    notes: Notes = {"name": str(last(net, "name", "")), "form": form_of(net), "inputs": inputs_of(net, layers)}
    return Source("prototxt", path, {}, tuple(layers), warnings, notes)


def parse(text: str) -> Message:
    """Any message in the text form: names to the list of their values, messages as such mappings, bare words as Symbol.

    Raises TextError.
    """
    root: Message = {}
    stack: list[tuple[Message, str]] = [(root, "")]
    tokens, fields = _Tokens(text), 0
    while (token := tokens.take()).kind != "end":
        message, closing = stack[-1]
        if token.text == closing and token.kind == "mark":
            stack.pop()
            tokens.skip(",;")
            continue
        if token.kind != "word" or token.text.startswith("-"):
            raise TextError(f"line {token.line}: {_shown(token)} where the name of a field is due")
        if (fields := fields + 1) > MAX_FIELDS:
            raise TextError(f"line {token.line}: more than {MAX_FIELDS:,} fields")
        values = message.setdefault(token.text, [])
        colon = tokens.skip(":")
        if tokens.next.kind == "mark" and tokens.next.text in _CLOSING:
            if len(stack) > MAX_DEPTH:
                raise TextError(f"line {token.line}: more than {MAX_DEPTH} braces within each other")
            values.append({})
            stack.append((values[-1], _CLOSING[tokens.take().text]))
        elif colon:
            values.extend(_list(tokens) if tokens.skip("[") else [_value(tokens)])
            tokens.skip(",;")
        else:
            raise TextError(f"line {token.line}: {_shown(tokens.next)} after {token.text[:40]!r}, where : or {{ is due")
    if len(stack) > 1:
        raise TextError(f"line {token.line}: the text ends within {len(stack) - 1} open braces")
    return root


class _Tokens:
    """The tokens of a text, one seen ahead."""

    def __init__(self, text: str) -> None:
        self._found = _tokens(text)
        self.next = next(self._found)

    def take(self) -> _Token:
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
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise TextError(f"line {line}: {text[at : at + 20].splitlines()[0]!r} is no part of this form")
        kind, found = str(match.lastgroup), match.group()
        if kind != "space":
            yield _Token(kind, found, line)
        line, at = line + found.count("\n"), match.end()
    yield _Token("end", "", line)


def _list(tokens: _Tokens) -> list[Any]:
    values: list[Any] = []
    while not tokens.skip("]"):
        values.append(_value(tokens))
        if len(values) > MAX_FIELDS:
            raise TextError(f"line {tokens.next.line}: more than {MAX_FIELDS:,} values in a list")
        if not tokens.skip(",") and tokens.next.text != "]":
            raise TextError(f"line {tokens.next.line}: {_shown(tokens.next)} in a list, where , or ] is due")
    return values


def _value(tokens: _Tokens) -> Any:
    token = tokens.take()
    if token.kind == "number":
        return _number(token)
    if token.kind == "word":
        word = token.text.lower()
        if word.lstrip("-") in ("inf", "infinity", "nan"):
            return float(word)
        if not word.startswith("-"):
            return Symbol(token.text)
    if token.kind == "text":
        pieces = [token.text[1:-1]]
        while tokens.next.kind == "text":  # texts side by side are one
            pieces.append(tokens.take().text[1:-1])
        return _unescaped("".join(pieces))
    raise TextError(f"line {token.line}: {_shown(token)} where a value is due")


def _number(token: _Token) -> int | float:
    digits = "".join(token.text.split())
    if len(digits) > _MAX_NUMBER:
        raise TextError(f"line {token.line}: a number of {len(digits)} digits")
    sign, bare = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    if bare[:2].lower() == "0x":
        value: int | float = int(bare, 16)
    elif bare.isdigit():
        octal = bare.startswith("0") and bare.strip("01234567") == ""
        value = int(bare, 8) if octal else int(bare)
    else:
        value = float(bare.rstrip("fF"))
    if isinstance(value, int) and value >> 63:
        raise TextError(f"line {token.line}: {digits} has more than 64 bits")
    return sign * value


def _unescaped(text: str) -> str:
    """Escapes stand for bytes: two or three of them may be one letter."""

    def byte(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        if code[:1] in b"xX" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        if code.isdigit() and code[:1] < b"8":
            return bytes([int(code, 8) & 0xFF])
        return _ESCAPES.get(code, code)

    if "\\" not in text:
        return text
    return _ESCAPE.sub(byte, text.encode("utf-8", "surrogatepass")).decode("utf-8", "backslashreplace")


def _shown(token: _Token) -> str:
    return "the end of the text" if token.kind == "end" else repr(token.text[:40])
