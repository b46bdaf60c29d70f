"""Plain .npy files: written and read without evaluating anything that a file says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
_ALIGNMENT = 64


class NpyRefused(ValueError):
    """The bytes are not a .npy file of the expected type and shape."""


def to_npy(array: NDArray[Any]) -> bytes:
    """The array as .npy 1.0, little-endian, row by row; the same bytes for the same array on every platform."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return _header(plain.dtype, plain.shape) + plain.tobytes()


def from_npy(data: bytes, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """The array in `data`, read-only; the first length may be None (whatever fits). Raises NpyRefused.

    The header must be exactly the one `to_npy` writes for this type and shape: it is compared, not parsed.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    row_bytes = kind.itemsize * int(np.prod([length or 1 for length in shape[1:]]))
    head_bytes = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 2], "little") + len(_MAGIC) + 2
    length, rest = divmod(max(len(data) - head_bytes, 0), row_bytes)
    wanted = tuple(length if side is None else side for side in shape)
    if rest or wanted[0] != length or data[:head_bytes] != _header(kind, wanted):
        raise NpyRefused(f"it is not a .npy file of {kind} {shape}")
    return np.frombuffer(data, kind, offset=head_bytes).reshape(wanted)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    size = len(_MAGIC) + 2 + len(text) + 1
    padded = text + " " * (-size % _ALIGNMENT) + "\n"
    return _MAGIC + len(padded).to_bytes(2, "little") + padded.encode("ascii")
