"""TensorBoard's event files: the scalars of their summaries, read without TensorFlow.

A file is a row of records (length, checksum of the length, data, checksum of the data); each holds an event as a
protocol buffer, of which only step and scalar summaries are looked at.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt

from attractor.progress import task

LARGE = 65_536  # bytes; longer records are images and graphs, of which nothing is read: not worth a checksum
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# TensorFlow's types of numbers: how they lie in `tensor_content`, and the field that holds them otherwise.
TYPES = {1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 9: ("<i8", 10), 19: ("<f2", 13)}


def read_events(data: bytes, name: str) -> tuple[dict[str, list[tuple[int, float]]], str]:
    """All scalars of an event file: ``{tag: [(step, value), …]}``, and a note, empty if the file is whole.

    Arguments:
        data: The file's bytes.
        name: The file's name, for errors.

    Raises:
        ValueError: for a file that is none, or whose checksums do not match what they are of.
    """
    records, note = _records(data, name)
    scalars: dict[str, list[tuple[int, float]]] = {}
    with task(f"reading {name}", len(records), "event") as advance:
        for i, (start, end) in enumerate(records, 1):
            try:
                event = dict(_fields(data[start:end]))
                step = event.get(2, 0)
                step -= (step >> 63) << 64  # negative numbers are written as their complement
                for number, value in _fields(event.get(5, b"")):
                    found = _scalar(value) if number == 1 else None
                    if found is not None:
                        scalars.setdefault(found[0], []).append((step, found[1]))
            except (IndexError, struct.error, UnicodeDecodeError, TypeError, AttributeError) as error:
                raise ValueError(f"{name}: the event at byte {start} cannot be read; is this an event file?") from error
            if i % 1000 == 0:
                advance(1000)
    return scalars, note


def _records(data: bytes, name: str) -> tuple[list[tuple[int, int]], str]:
    """Start and end of each record's data, checksums compared; a note when the last one is cut off."""
    heads, spans, at, note = [], [], 0, ""
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        if len(data) - at < 12 or (at and at + 16 + length > len(data)):
            note = f"{name}: the last record is cut off, as in a run that was killed; it is left out"
            break
        if at + 16 + length > len(data):
            raise ValueError(f"{name}: not an event file of TensorBoard (its first record does not fit into it)")
        heads.append((at, at + 8))
        spans.append((at + 12, at + 12 + length))
        at += 16 + length
    for start, end in _damaged(data, heads + spans):
        raise ValueError(
            f"{name}: the record at byte {start - (12 if (start, end) in set(spans) else 0)} does not match its "
            "checksum: the file is damaged, or no event file of TensorBoard; copy it anew"
        )
    return spans, note


def _damaged(data: bytes, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pieces that differ from the masked checksum in the four bytes after them."""
    raw = np.frombuffer(data, np.uint8)
    starts, ends = np.asarray(spans, int).reshape(-1, 2).T
    small = ends - starts <= LARGE
    starts, ends = starts[small], ends[small]
    stored = raw[ends[:, None] + np.arange(4)].copy().view("<u4")[:, 0]
    wrong = masked_crc(raw, starts, ends) != stored
    return sorted(zip(starts[wrong].tolist(), ends[wrong].tolist(), strict=True))


def _crc_table() -> UInt[np.ndarray, " 256"]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(0x82F63B78), table >> np.uint32(1))
    return table


CRC_TABLE = _crc_table()


def masked_crc(
    data: UInt[np.ndarray, " bytes"], starts: Int[np.ndarray, " n"], ends: Int[np.ndarray, " n"]
) -> UInt[np.ndarray, " n"]:
    """The checksum CRC-32C of each piece of the data, rotated and shifted as the format wants it.

    A byte at a time of all pieces at once, the longest first, so that those still going on are always the first ones.
    """
    order = np.argsort(starts - ends, kind="stable")
    first, lengths = starts[order], (ends - starts)[order]
    crc = np.full(len(order), 0xFFFFFFFF, np.uint32)
    for i in range(int(lengths.max(initial=0))):
        on = int(np.searchsorted(-lengths, -i))  # how many are longer than i
        crc[:on] = CRC_TABLE[(crc[:on] ^ data[first[:on] + i]) & 0xFF] ^ (crc[:on] >> np.uint32(8))
    crc = ~crc
    masked = np.empty_like(crc)
    masked[order] = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    return masked


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: number, and an integer (varint) or bytes (all others)."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if length is None:
                if kind != BYTES:
                    raise IndexError(f"unknown wire type {kind}")
                length, at = _varint(message, at)
            if at + length > len(message):
                raise IndexError("a field is longer than its message")
            value, at = message[at : at + length], at + length
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _scalar(value: bytes) -> tuple[str, float] | None:
    """Tag and number of one value of a summary; `None` for an image, a histogram, a text."""
    fields = dict(_fields(value))
    tag = fields.get(1, b"").decode()
    if 2 in fields:
        return tag, struct.unpack("<f", fields[2])[0]
    tensor = list(_fields(fields.get(8, b"")))
    known = dict(tensor)
    if known.get(1) not in TYPES:
        return None
    layout, place = TYPES[known[1]]
    numbers = _numbers(tensor, known, layout, place)
    return (tag, float(numbers[0])) if len(numbers) == 1 else None


def _numbers(
    tensor: list[tuple[int, Any]], known: dict[int, Any], layout: str, place: int
) -> "np.ndarray | list[float]":
    if 4 in known:
        return np.frombuffer(known[4], layout)
    found: list[float] = []
    for number, value in tensor:
        if number != place:
            continue
        if layout in ("<f4", "<f8"):
            found += np.frombuffer(value, layout).tolist()
        else:
            found += [value] if isinstance(value, int) else _packed(value)
    if layout == "<f2":  # sixteen bits, kept in an integer
        return np.asarray(found, np.uint16).view("<f2")
    return [int(v) - ((int(v) >> 63) << 64) if layout[1] == "i" else v for v in found]


def _packed(value: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(number)
    return numbers
