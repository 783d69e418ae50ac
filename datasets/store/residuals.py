"""Pictures and depth as what their neighbours do not predict, which deflate packs two to eight times smaller.

The prediction is left + above - above left: residuals are the differences along both axes, and a sum along
both axes gives the values back, exactly, in integers that wrap around. In an npz, `NAME.residuals` uint8
[T,P,H,W] stands for

- uint8 [T,H,W,3]: the three planes are red - green, green and blue - green;
- float32 [T,H,W]: planes from the lowest byte on, of numbers that stand for floats in their order. A residual
  r is stored as 2r, or as -2r - 1 if it is negative, so that higher bytes of small ones are 0. `NAME.floats`
  int64 (dropped, lowest): a float's bits without the last `dropped` are its number plus lowest - 1. With bits
  dropped, number 0 is the float 0, and the highest number is inf; without, numbers are the bits.

Dropping bits rounds to the nearest float with 23 - dropped bits of mantissa (M. Kloewer et al., Compressing
atmospheric data into its real information content, 2021): the relative error is at most 2^(dropped - 24), the
same at every distance. Sums are OpenCV's `integral`; docs/architecture.md has them in two lines of NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from recapture.conf.heartbeat import beat

MANTISSA = 23  # bits of a float32
INFINITY = 0x7F800000  # its bits
RESIDUALS, FLOATS = "residuals", "floats"
LARGEST = (1 << 31) // 255  # pixels whose sum is an int32


def pack_frames(arrays: Mapping[str, np.ndarray], mantissa: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return the arrays as they are stored; mantissa: how many bits of it float32 arrays keep, by name."""
    packed: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not array.size or array.dtype.hasobject:
            packed[name] = array
        elif array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] == 3:
            packed[f"{name}.{RESIDUALS}"] = picture_residuals(array)
        elif array.dtype == np.float32 and array.ndim == 3:
            dropped = MANTISSA - mantissa.get(name, MANTISSA)
            packed[f"{name}.{RESIDUALS}"], packed[f"{name}.{FLOATS}"] = float_residuals(array, dropped)
        else:
            packed[name] = array
    return packed


def unpack_array(stored: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return one array of a file that `pack_frames` made; stored: the file's arrays of that name."""
    if name in stored:
        return stored[name]
    residuals, floats = stored[f"{name}.{RESIDUALS}"], stored.get(f"{name}.{FLOATS}")
    return pictures(residuals) if floats is None else floats32(residuals, floats)


def stored_name(member: str) -> str:
    """Return the name of the array that a member of a file belongs to."""
    name, _, kind = member.rpartition(".")
    return name if kind in (RESIDUALS, FLOATS) else member


def picture_residuals(frames: np.ndarray) -> np.ndarray:
    """Return the residuals uint8 [T,3,H,W] of pictures uint8 [T,H,W,3]."""
    residuals = np.empty((len(frames), 3, *frames.shape[1:3]), dtype=np.uint8)
    for frame, planes in zip(frames, residuals):
        beat()
        red, green, blue = cv2.split(frame)
        for plane, values in zip(planes, (red - green, green, blue - green)):
            _differ(values, plane)
    return residuals


def pictures(residuals: np.ndarray) -> np.ndarray:
    """Return the pictures uint8 [T,H,W,3] that have these residuals."""
    frames = np.empty((len(residuals), *residuals.shape[2:], 3), dtype=np.uint8)
    for frame, planes in zip(frames, residuals):
        beat()
        red, green, blue = (_sum(plane).astype(np.uint8) for plane in planes)
        red += green
        blue += green
        cv2.merge((red, green, blue), dst=frame)
    return frames


def float_residuals(values: np.ndarray, dropped: int) -> tuple[np.ndarray, np.ndarray]:
    """Return residuals uint8 [T,P,H,W] and (dropped, lowest) of float32 [T,H,W]; the fewest planes are used.

    With bits dropped, negative numbers become 0, and nan becomes inf.
    """
    bits = np.ascontiguousarray(values).view(np.int32)
    lowest, planes = (1, 4) if not dropped else _span(bits, dropped)
    residuals = np.empty((len(values), planes, *values.shape[1:]), dtype=np.uint8)
    unsigned = np.dtype(f"u{1 if planes == 1 else 2 if planes == 2 else 4}")
    for frame, stored in zip(bits, residuals):
        beat()
        numbers = frame.view(np.uint32) if not dropped else _numbers(frame, dropped, lowest, planes)
        difference = np.empty(frame.shape, dtype=unsigned)
        _differ(numbers.astype(unsigned), difference)
        sign = difference >> np.array(8 * difference.itemsize - 1, dtype=unsigned)
        difference += difference
        difference ^= np.array(0, dtype=unsigned) - sign
        for place, plane in enumerate(stored):
            plane[:] = difference >> np.array(8 * place, dtype=unsigned)
    return residuals, np.array([dropped, lowest], dtype=np.int64)


def floats32(residuals: np.ndarray, floats: np.ndarray) -> np.ndarray:
    """Return the float32 [T,H,W] that have these residuals."""
    dropped, lowest = (int(value) for value in floats)
    planes = residuals.shape[1]
    unsigned = np.dtype(f"u{1 if planes == 1 else 2 if planes == 2 else 4}")
    values = np.empty((len(residuals), *residuals.shape[2:]), dtype=np.float32)
    table = _table(dropped, lowest, planes) if planes <= 2 else None
    for frame, stored in zip(values, residuals):
        beat()
        difference = stored[0].astype(unsigned)
        for place in range(1, planes):
            difference |= stored[place].astype(unsigned) << np.array(8 * place, dtype=unsigned)
        sign = np.array(0, dtype=unsigned) - (difference & np.array(1, dtype=unsigned))
        difference >>= np.array(1, dtype=unsigned)
        difference ^= sign
        numbers = np.zeros(frame.shape, dtype=np.uint32)
        for place in range(planes):
            byte = (difference >> np.array(8 * place, dtype=unsigned)).astype(np.uint8)
            numbers += _sum(byte) << np.uint32(8 * place)
        if table is not None:
            np.take(table, numbers.astype(unsigned), out=frame)
        else:
            frame.view(np.uint32)[:] = numbers if not dropped else _bits(numbers, dropped, lowest, planes)
    return values


def _span(bits: np.ndarray, dropped: int) -> tuple[int, int]:
    """Return the lowest number that occurs, at least 1, and how many bytes numbers from it on take."""
    low, high = INFINITY, 0
    for frame in bits:
        positive = frame[(frame > 0) & (frame < INFINITY)]
        if positive.size:
            low, high = min(low, int(positive.min())), max(high, int(positive.max()))
    if high == 0:
        return 1, 1
    half = 1 << (dropped - 1)
    lowest, highest = max(1, (low + half) >> dropped), (high + half) >> dropped
    span = highest - lowest + 2  # the highest number of all stands for inf
    return lowest, 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4


def _numbers(bits: np.ndarray, dropped: int, lowest: int, planes: int) -> np.ndarray:
    """Return int64 [H,W]: rounded floats, `lowest` being 1; 0 stands for 0, the highest number for inf."""
    infinite = bits >= INFINITY
    numbers = (np.maximum(bits, 0).astype(np.int64) + (1 << (dropped - 1))) >> dropped
    numbers -= lowest - 1
    np.maximum(numbers, 0, out=numbers)
    numbers[infinite] = (1 << 8 * planes) - 1
    return numbers


def _bits(numbers: np.ndarray, dropped: int, lowest: int, planes: int) -> np.ndarray:
    """Return the bits uint32 of floats by number."""
    bits = (numbers + np.uint32(lowest - 1)) << np.uint32(dropped)
    bits[numbers == 0] = 0
    bits[numbers == (1 << 8 * planes) - 1] = INFINITY
    return np.asarray(bits)


def _table(dropped: int, lowest: int, planes: int) -> np.ndarray:
    """Return the float32 of every number of one or two bytes."""
    return _bits(np.arange(1 << 8 * planes, dtype=np.uint32), dropped, lowest, planes).view(np.float32)


def _differ(values: np.ndarray, out: np.ndarray) -> None:
    """Write the differences of [H,W] along both axes, wrapping around, to `out`; `values` is overwritten."""
    out[:] = values
    out[:, 1:] -= values[:, :-1]
    values[:] = out
    out[1:] -= values[:-1]


def _sum(residuals: np.ndarray) -> np.ndarray:
    """Return uint32 [H,W], wrapping around: the sums of uint8 [H,W] along both axes."""
    if residuals.size < LARGEST:
        return cv2.integral(residuals)[1:, 1:].view(np.uint32)
    along = np.cumsum(residuals, axis=1, dtype=np.uint32)
    return np.asarray(np.cumsum(along, axis=0, dtype=np.uint32))
