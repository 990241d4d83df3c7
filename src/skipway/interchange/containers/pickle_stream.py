"""Pickles read without running them.

A pickle is a program for a small stack machine. This is that machine without access to anything outside: a global is
looked up in the caller's table and nowhere else, and what is called is the caller's own function, never what the name
means in Python. Long strings stay in the file. The number of steps limits time and memory.

Why an own machine: `pickle` and `torch.load` with `weights_only=False` run what a file names. `weights_only=True` does
not, but it reads PyTorch's files alone and loads them whole.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any

from skipway.interchange.containers.pickle_values import (
    Buildable,
    Global,
    Ignored,
    PickleError,
    Span,
    UnknownGlobalError,
    put,
)

# The largest training checkpoints take some hundred thousand.
MAX_STEPS = 1_000_000
# Strings over this are data, not names, and stay in the file.
MAX_SHORT = 4096
MAX_INTEGER_BYTES = 255
MAX_DIGITS = 100
_STOP = b"."
_TRUTH_VALUES = {b"00": False, b"01": True}
_COPIED = (list, tuple, dict, str, bytes)  # arguments that a function may copy
# What a damaged pickle makes a step raise.
_DAMAGE_ERRORS = (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error, OverflowError)


class PickleStream:
    """Pickles that lie one behind the other in `data`. `position` is where the next one begins."""

    def __init__(
        self,
        data: bytes | mmap,
        known: Mapping[str, Callable[..., object] | None],
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        """`known` maps `module.name` to what to call, or to None for a name that may be mentioned but not called.

        `persistent` resolves references to things outside the pickle. Without it they are refused.
        """
        self.data = data
        self.position = 0
        self._known = known
        self._persistent = persistent
        self._steps = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The next pickle's object. Raises PickleError."""
        self._stack = []
        self._marks = []
        self._memo = {}
        try:
            return self._run()
        except PickleError:
            raise
        except _DAMAGE_ERRORS as error:
            words = str(error).split()
            reason = " ".join(words)[:100]
            kind = type(error).__name__
            raise PickleError(f"is damaged (byte {self.position}: {kind} {reason})") from None

    def _run(self) -> Any:
        """Run steps up to the end of a pickle. Returns the object that is left on the stack."""
        code = self._take(1)
        while code != _STOP:
            self._spend(1)
            step = _STEPS.get(code)
            if step is None:
                raise PickleError(f"is damaged or of an unknown form (code {code.hex()} at byte {self.position})")
            step(self)
            code = self._take(1)
        if len(self._stack) != 1:
            raise PickleError("is damaged (a pickle that ends amid an object)")
        return self._stack.pop()

    def _spend(self, steps: int) -> None:
        """Count steps. Refuses a pickle that takes too many."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise PickleError(f"takes over {MAX_STEPS} steps to unpickle, no weights do")

    def _take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self._skip(count)
        return self.data[start : start + count]

    def _skip(self, count: int) -> int:
        """Go behind the next `count` bytes, once they are known to be there. Returns where they begin."""
        start = self.position
        left = len(self.data) - start
        if not 0 <= count <= left:
            raise PickleError("is cut short or damaged (a string longer than the file)")
        self.position += count
        return start

    def _line(self, longest: int = MAX_SHORT) -> bytes:
        """The bytes up to the next end of a line, at most `longest` of them."""
        limit = self.position + longest + 1
        end = self.data.find(b"\n", self.position, limit)
        if end < 0:
            raise PickleError("is cut short or damaged (a line without an end)")
        line = self._take(end - self.position)
        self.position += 1
        return line

    def _number(self, form: str) -> int:
        """The next number, in a form of the module `struct`."""
        size = struct.calcsize(form)
        value: int = struct.unpack(form, self._take(size))[0]
        return value

    def _push(self, value: object) -> None:
        """Put a value onto the stack."""
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        """Take everything above the last mark from the stack."""
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _string(self, size: int, kind: str) -> None:
        """Push a string of `size` bytes. `kind` is its encoding, or "bytes". A long one is pushed as its place."""
        start = self._skip(size)
        if size > MAX_SHORT:
            is_text = kind == "utf-8"
            self._push(Span(start, size, is_text))
            return
        content = self.data[start : start + size]
        if kind == "bytes":
            self._push(content)
        else:
            self._push(content.decode(kind))

    def _integer(self, size: int) -> None:
        """Push an integer of `size` bytes."""
        if not 0 <= size <= MAX_INTEGER_BYTES:
            raise PickleError(f"holds an integer of {size} bytes")
        content = self._take(size)
        value = int.from_bytes(content, "little", signed=True)
        self._push(value)

    def _decimal(self) -> None:
        """Push an integer in decimal digits, or a truth value, which protocol 0 writes as 00 and 01."""
        line = self._line(MAX_DIGITS)
        if line in _TRUTH_VALUES:
            self._push(_TRUTH_VALUES[line])
            return
        digits = line.removesuffix(b"L")
        self._push(int(digits))

    def _quoted(self) -> None:
        """Push a string in quotes."""
        line = self._line()
        first = line[:1]
        last = line[-1:]
        quoted = first in {b"'", b'"'} and first == last
        if len(line) < 2 or not quoted:
            raise PickleError("is damaged (a string without its quotes)")
        content, _ = codecs.escape_decode(line[1:-1])
        self._push(content.decode("latin-1"))

    def _global(self, module: str, name: str) -> None:
        """Push a name of the table."""
        full = f"{module}.{name}"
        if full not in self._known:
            raise UnknownGlobalError(full)
        function = self._known[full]
        self._push(Global(full, function))

    def _global_line(self) -> None:
        """Push a name that follows in two lines."""
        module = self._line().decode()
        name = self._line().decode()
        self._global(module, name)

    def _global_stack(self) -> None:
        """Push a name whose parts are on the stack."""
        name = self._stack.pop()
        module = self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("is damaged (a global whose name is no text)")
        self._global(module, name)

    def _call(self) -> None:
        """Call the caller's own function for a name, and push what it returns."""
        arguments = self._stack.pop()
        function = self._stack.pop()
        if not isinstance(function, Global) or function.call is None:
            raise PickleError("calls what is not to be called")
        if type(arguments) is not tuple:
            raise PickleError("calls what is not to be called")
        # A function may copy its arguments. Each copy counts, or one list could be copied a million times.
        for argument in arguments:
            if isinstance(argument, _COPIED):
                self._spend(len(argument))
        made = function.call(*arguments)
        self._push(made)

    def _build(self) -> None:
        """Give a state to the object on the stack."""
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict):  # that of an ordered dict holds attributes, such as torch's _metadata
            raise PickleError("gives a state to what has none")

    def _reference(self) -> None:
        """Push what a reference to something outside the pickle stands for."""
        if self._persistent is None:
            raise PickleError("refers to data outside itself")
        reference = self._stack.pop()
        found = self._persistent(reference)
        self._push(found)

    def _tuple(self, count: int) -> None:
        """Push a tuple of the last `count` values."""
        items = tuple(self._stack[-count:])
        if len(items) != count:
            raise PickleError("is damaged (a tuple of fewer items than it says)")
        del self._stack[-count:]
        self._push(items)

    def _fill(self, items: list[Any]) -> None:
        """Append items to the list on the stack."""
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Ignored):
            raise PickleError("is damaged (items for what is no list)")

    def _fill_pairs(self, items: list[Any]) -> None:
        """Put items into the dictionary on the stack: keys and values in turn."""
        target = self._stack[-1]
        odd = len(items) % 2 == 1
        if odd or not isinstance(target, dict | Ignored):
            raise PickleError("is damaged (items for what is no dictionary)")
        if isinstance(target, Ignored):
            return
        keys = items[::2]
        values = items[1::2]
        for key, value in zip(keys, values, strict=True):
            put(target, key, value)

    def _dict(self) -> None:
        """Push a dictionary of everything above the last mark."""
        items = self._since_mark()
        self._push({})
        self._fill_pairs(items)

    def _pop(self) -> None:
        """Drop the last mark where it is on top, else the value on top."""
        height = len(self._stack)
        marked = self._marks[-1:] == [height]
        if marked:
            self._marks.pop()
        else:
            self._stack.pop()

    def _memoize(self, index: int) -> None:
        """Remember the value on top under a number."""
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        """Push the value that has this number."""
        self._push(self._memo[index])


# One step a code; the codes are those that Python's module `pickle` defines.
_STEPS: dict[bytes, Callable[[PickleStream], object]] = {
    b"\x80": lambda m: m._take(1),  # PROTO
    b"\x95": lambda m: m._take(8),  # FRAME
    b"(": lambda m: m._marks.append(len(m._stack)),
    b"0": PickleStream._pop,
    b"1": PickleStream._since_mark,
    b"2": lambda m: m._push(m._stack[-1]),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),  # noqa: FBT003
    b"\x89": lambda m: m._push(False),  # noqa: FBT003
    b"I": PickleStream._decimal,
    b"L": PickleStream._decimal,
    b"J": lambda m: m._push(m._number("<i")),
    b"K": lambda m: m._push(m._number("<B")),
    b"M": lambda m: m._push(m._number("<H")),
    b"\x8a": lambda m: m._integer(m._number("<B")),
    b"\x8b": lambda m: m._integer(m._number("<i")),
    b"F": lambda m: m._push(float(m._line(MAX_DIGITS))),
    b"G": lambda m: m._push(struct.unpack(">d", m._take(8))[0]),
    b"S": PickleStream._quoted,
    b"T": lambda m: m._string(m._number("<i"), "latin-1"),
    b"U": lambda m: m._string(m._number("<B"), "latin-1"),
    b"V": lambda m: m._push(m._line().decode("raw-unicode-escape")),
    b"X": lambda m: m._string(m._number("<I"), "utf-8"),
    b"\x8c": lambda m: m._string(m._number("<B"), "utf-8"),
    b"\x8d": lambda m: m._string(m._number("<Q"), "utf-8"),
    b"B": lambda m: m._string(m._number("<I"), "bytes"),
    b"C": lambda m: m._string(m._number("<B"), "bytes"),
    b"\x8e": lambda m: m._string(m._number("<Q"), "bytes"),
    b"\x96": lambda m: m._string(m._number("<Q"), "bytes"),
    b"}": lambda m: m._push({}),
    b"d": PickleStream._dict,
    b"s": lambda m: m._fill_pairs([m._stack.pop(-2), m._stack.pop()]),
    b"u": lambda m: m._fill_pairs(m._since_mark()),
    b"]": lambda m: m._push([]),
    b"l": lambda m: m._push(m._since_mark()),
    b"a": lambda m: m._fill([m._stack.pop()]),
    b"e": lambda m: m._fill(m._since_mark()),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._since_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"c": PickleStream._global_line,
    b"\x93": PickleStream._global_stack,
    b"R": PickleStream._call,
    b"\x81": PickleStream._call,  # NEWOBJ
    b"b": PickleStream._build,
    b"Q": PickleStream._reference,
    b"p": lambda m: m._memoize(int(m._line(MAX_DIGITS))),
    b"q": lambda m: m._memoize(m._number("<B")),
    b"r": lambda m: m._memoize(m._number("<I")),
    b"\x94": lambda m: m._memoize(len(m._memo)),
    b"g": lambda m: m._recall(int(m._line(MAX_DIGITS))),
    b"h": lambda m: m._recall(m._number("<B")),
    b"j": lambda m: m._recall(m._number("<I")),
}
