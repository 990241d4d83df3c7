"""The wire format against Google's library, and what it refuses."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2, wrappers_pb2

from skipway.interchange.containers import protobuf
from skipway.interchange.containers.protobuf import Budget, WireError, WireField, fields


def read(data: bytes, budget: int = 100) -> list[WireField]:
    return list(fields(data, 0, len(data), Budget(budget)))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)])
def test_whole_numbers_are_those_of_the_library(value: int) -> None:
    theirs = wrappers_pb2.Int64Value(value=value).SerializeToString()
    assert protobuf.encode_int(1, value) == (theirs or b"\x08\x00")
    (field,) = read(protobuf.encode_int(1, value))
    assert (field.number, protobuf.signed(field.value)) == (1, value)


@pytest.mark.parametrize("value", [0.5, -1e-3, 3e38, 1e300])
def test_floats_are_those_of_the_library(value: float) -> None:
    expected = wrappers_pb2.FloatValue(value=value).SerializeToString()
    assert protobuf.encode_float(1, value) == expected


def test_texts_and_messages_are_those_of_the_library() -> None:
    value = struct_pb2.Value(string_value="é" * 100)
    assert protobuf.encode_bytes(3, ("é" * 100).encode()) == value.SerializeToString()


def test_numbers_in_a_row_are_one_field() -> None:
    single = b"\x2d\x00\x00\x80\x3f"
    data = b"\x08\x05" + single * 1000 + b"\x2a\x01\xff" + single
    assert read(data, budget=5) == [
        WireField(1, 0, 1, 2, 5),
        WireField(5, 5, 2, 5002, items=1000),
        WireField(5, 2, 5004, 5005),
        WireField(5, 5, 5006, 5010),
    ]


def test_numbers_in_a_row_end_where_another_field_starts() -> None:
    """A payload that holds the tag's byte is no tag."""
    data = b"\x2d\x2d\x2d\x2d\x2d" * 3 + b"\x35\x00\x00\x00\x00" + b"\x2d\x00\x00\x00\x00"
    assert [(field.number, field.items) for field in read(data)] == [(5, 3), (6, 1), (5, 1)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x08", "cut off"),
        (b"\x08\x80", "cut off"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than ten bytes"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x0a\x05abc", "declares 5 bytes where 3 are left"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "declares 18,446,744,073,709,551,615 bytes"),
        (b"\x2d\x00\x00", "ends inside the number"),
        (b"\x29" + bytes(7), "ends inside the number"),
        (b"\x00\x00", "field of number 0"),
        (b"\x80\x80\x80\x80\x80\x01", "field of number"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0f", "wire type 7"),
    ],
)
def test_broken_bytes_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(WireError, match=told):
        read(data)


def test_fields_are_bounded() -> None:
    assert len(read(b"\x08\x01" * 100)) == 100
    with pytest.raises(WireError, match="more than 100 fields"):
        read(b"\x08\x01" * 101)
