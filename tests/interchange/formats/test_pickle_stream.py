"""Pickles are read as Python reads them where they hold plain values, and never run."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from skipway.interchange.containers.pickle_stream import MAX_STEPS, PickleStream
from skipway.interchange.containers.pickle_values import PickleError, Span, UnknownGlobalError
from skipway.interchange.torch.pickle import KNOWN

MANY = 1 << 17


def load(content: bytes) -> Any:
    return PickleStream(content, KNOWN).load()


PLAIN = {
    "none": None,
    "flags": [True, False],
    "integers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63, -(2**200)],
    "floats": [0.0, -1.5, 1e300, float("inf")],
    "texts": ["", "conv1", "grün", "a'b\"c\\", "x" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "nested": {"a": {"b": [{}, []]}, 1: "one", None: 0, (1, "a"): 2},
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_those_that_python_reads(protocol: int) -> None:
    assert load(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(3, 6))
def test_bytes_are_bytes(protocol: int) -> None:
    assert load(pickle.dumps([b"", b"\0\xff"], protocol)) == [b"", b"\0\xff"]


def test_bytes_that_python_3_wrote_for_python_2() -> None:
    assert load(pickle.dumps(b"\0\xff\x80a", 2)) == b"\0\xff\x80a"


def test_ordered_dictionaries_become_dictionaries_with_and_without_items() -> None:
    value = collections.OrderedDict([("b", 1), ("a", 2)])
    assert list(load(pickle.dumps(value, 2)).items()) == [("b", 1), ("a", 2)]
    python2 = b"\x80\x02ccollections\nOrderedDict\n](](U\x01bK\x01e](U\x01aK\x02ee\x85R."
    assert load(python2) == {"b": 1, "a": 2}


def test_strings_of_python_2_are_latin_1() -> None:
    assert load(b"\x80\x02](U\x03a\xe9bT\x02\x00\x00\x00\xff\x00S'\\xe9\\n'\nV\\u20ac\ne.") == [
        "aéb",
        "ÿ\0",
        "é\n",
        "€",
    ]


def test_long_strings_stay_where_they_are() -> None:
    content = pickle.dumps([b"x" * 5000, "y" * 5000], 4)
    data, text = load(content)
    assert (data.size, data.text, text.size, text.text) == (5000, False, 5000, True)
    assert content[data.start : data.start + 5000] == b"x" * 5000
    assert isinstance(text, Span)
    assert content[text.start : text.start + 5000] == b"y" * 5000


def test_pickles_follow_one_another() -> None:
    stream = PickleStream(pickle.dumps(1) + pickle.dumps(["a"], 2) + b"rest", KNOWN)
    assert [stream.load(), stream.load()] == [1, ["a"]]
    assert stream.data[stream.position :] == b"rest"


class Command:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def test_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for protocol in range(6):
        with pytest.raises(UnknownGlobalError, match="system"):
            load(pickle.dumps({"a": Command(marker)}, protocol))
    assert not marker.exists()
    pickle.loads(pickle.dumps(Command(marker)))
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os\nsystem", "posix\nsystem", "builtins\neval", "__builtin__\neval", "builtins\nexec", "builtins\ngetattr",
        "builtins\n__import__", "numpy.testing._private.utils\nrunstring", "subprocess\nPopen", "functools\npartial",
        "torch\nload", "torch.hub\nload", "numpy\nload", "numpy\nfromfile", "operator\nattrgetter", "pickle\nloads",
        "torch.storage\n_load_from_bytes", "torch.nn.modules.linear\nLinear", "numpy\nndarray.__reduce__",
    ],
)  # fmt: skip
def test_names_outside_the_table_are_refused_when_mentioned(name: str) -> None:
    module, _, attribute = name.partition("\n")
    by_line = b"\x80\x02c" + name.encode() + b"\n."
    by_stack = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(p)]) + p.encode() for p in (module, attribute)) + b"\x93."
    for content in (by_line, by_stack):
        with pytest.raises(UnknownGlobalError) as caught:
            load(content)
        assert caught.value.name == f"{module}.{attribute}"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02(ios\nsystem\n.",  # INST
        b"\x80\x02(cos\nsystem\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x02ctorch\nFloatStorage\n)R.",  # mentioned, not to be called
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x80\x02](K\x01e}b.",  # a state for a list
        b"\x80\x02K\x01)R.",
        b"\x80\x02U\x01aQ.",  # a reference, where none are resolved
        b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
        b"\x80\x02cnumpy\ndtype\nU\x04O8\xff\xff\x85R.",
        b"\x80\x02cnumpy\ndtype\n(U\x02f4U\x02f4t\x85R.",
    ],
)
def test_other_doors_are_shut(content: bytes) -> None:
    with pytest.raises(PickleError):
        load(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x8a\xff" + b"\x7f" * 100 + b".",  # LONG1 past the end
        b"\x8b\xff\xff\xff\x7f\x01.",  # LONG4 of 2 GiB
        b"\x8b\xff\xff\xff\xff\x01.",  # of minus one byte
        b"\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".",
        b"T\xff\xff\xff\x7fabc.",
        b"T\xff\xff\xff\xffabc.",
        b"\x8e" + b"\xff" * 8 + b"abc.",
        b"\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
        b"I" + b"9" * 200 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"p" + b"9" * 200 + b"\n.",
        b"S'" + b"a" * 10_000 + b"'\n.",
        b"h\x07.",
        b"t.", b"u.", b"0.", b"\x87.", b"R.", b"b.", b"a.", b"s.", b"\x94.", b".", b"",
        b"K\x01K\x02.",
        b"\xff",
        b"X\x01\x00\x00\x00\xff.",
        b"}(K\x01u.",
    ],
)  # fmt: skip
def test_damaged_pickles_and_lying_sizes_are_refused(content: bytes) -> None:
    with pytest.raises(PickleError):
        load(content)


def doubled(times: int, kind: bytes = b"l") -> bytes:
    """A list (or tuple) of two times the list before: small here, 2**times items for whoever walks through it."""
    return b"](K\x01eq\x00" + b"(h\x00h\x00" + kind + b"q\x00" + (b"0(h\x00h\x00" + kind + b"q\x00") * times


BOMBS = {
    "deep lists": b"]" * 400_000 + b"a" * 399_999 + b".",
    "doubling lists": doubled(30_000) + b"\x86.",
    "tuples as keys": b"}" + doubled(100, b"t") + b"K\x01s.",
    "keys of deep tuples": b"}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "marks": b"(" * (2 * MAX_STEPS),
    "dictionaries": b"}" * (2 * MAX_STEPS),
    "one list copied": (
        b"](" + b"K\x01" * MANY + b"eq\x00ccollections\nOrderedDict\nq\x01" + b"0h\x01h\x00\x85R" * MANY
    ),
    "one text encoded": (
        b"X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00c_codecs\nencode\nq\x010"
        b"X\x06\x00\x00\x00latin1q\x02" + b"h\x01h\x00h\x02\x86R" * MANY
    ),
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00K\x01h\x00s.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_neither_time_nor_memory(name: str) -> None:
    begun = time.monotonic()
    try:
        load(b"\x80\x02" + BOMBS[name])
    except PickleError as error:
        assert name not in {"a list in itself", "a dictionary in itself", "deep lists"}, error
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "name", ["tuples as keys", "keys of deep tuples", "one list copied", "one text encoded", "marks"]
)
def test_these_bombs_are_refused(name: str) -> None:
    with pytest.raises(PickleError):
        load(b"\x80\x02" + BOMBS[name])
