"""NumPy files as Python 2 wrote them, byte by byte, and the arrays that the fixtures hold."""

from __future__ import annotations

import struct

import numpy as np


def array(*shape: int) -> np.ndarray:
    """As in the fixtures' script."""
    count = int(np.prod(shape))
    return ((np.arange(count) - count // 3) / 7.0).astype(np.float32).reshape(shape)


def python2_array(values: np.ndarray, order: bytes = b"<", *, fortran: bool = False, long: bool = True) -> bytes:
    """An ndarray as Python 2 pickles it."""
    data = values.astype(values.dtype.newbyteorder(order.decode())).tobytes("F" if fortran else "C")
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01("
    shape = b"".join(b"K" + bytes([size]) if size < 256 else b"M" + struct.pack("<H", size) for size in values.shape)
    code = values.dtype.str[1:].encode()
    dtype = b"tcnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R(K\x03U\x01" + order
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + (b"\x88" if fortran else b"\x89")
    text = b"T" + struct.pack("<i", len(data)) if long else b"U" + bytes([len(data)])
    return head + shape + dtype + text + data + b"tb"


def npy_of(content: bytes, header: bytes = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }") -> bytes:
    """A .npy file whose one object is what `content` pickles."""
    padded = header.ljust(117) + b"\n"
    prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded
    return prefix + (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01)"
        b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]"
        + content
        + b"atb."
    )


def python2_layers(*pairs: tuple[str, bytes]) -> bytes:
    return npy_of(b"}(" + b"".join(b"U" + bytes([len(k)]) + k.encode() + value for k, value in pairs) + b"u")


LAYERS = {
    "conv1/weights": array(3, 3, 3, 4),
    "conv1/biases": array(4),
    "conv2/weights": array(5, 5, 4, 6),
    "conv2/biases": array(6),
    "fc6/weights": array(24, 60),
    "fc6/biases": array(60),
}
