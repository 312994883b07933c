"""The maker's instrument library of the B1530A (wgfmu.dll): its functions, its constants and its errors.

Names, argument types and constants are those of the maker's header file wgfmu.h.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

from drivers.errors import InstrumentError, LinkError
from models.exceptions import BenchFailure

FILE = "wgfmu.dll"
NAME = "Keysight B1530A"
MOST_ERRORS = 8
"""Errors read from the library's list after a refusal, should it never run dry."""

_INT, _DOUBLE, _TEXT = ctypes.c_int, ctypes.c_double, ctypes.c_char_p
_INT_OUT, _DOUBLE_OUT = ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_double)

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "openSession": (_TEXT,),
    "closeSession": (),
    "initialize": (),
    "getChannelIdSize": (_INT_OUT,),
    "getChannelIds": (_INT_OUT, _INT_OUT),
    "getErrorSize": (_INT_OUT,),
    "getError": (_TEXT, _INT_OUT),
    "setOperationMode": (_INT, _INT),
    "setForceVoltageRange": (_INT, _INT),
    "setMeasureMode": (_INT, _INT),
    "setMeasureVoltageRange": (_INT, _INT),
    "setMeasureCurrentRange": (_INT, _INT),
    "connect": (_INT,),
    "disconnect": (_INT,),
    "clear": (),
    "createPattern": (_TEXT, _DOUBLE),
    "addVector": (_TEXT, _DOUBLE, _DOUBLE),
    "setMeasureEvent": (_TEXT, _TEXT, _DOUBLE, _INT, _DOUBLE, _DOUBLE, _INT),
    "addSequence": (_INT, _TEXT, _DOUBLE),
    "execute": (),
    "abort": (),
    "getStatus": (_INT_OUT, _DOUBLE_OUT, _DOUBLE_OUT),
    "getMeasureValueSize": (_INT, _INT_OUT, _INT_OUT),
    "getMeasureValues": (_INT, _INT, _INT_OUT, _DOUBLE_OUT, _DOUBLE_OUT),
    "dcforceVoltage": (_INT, _DOUBLE),
}
"""Functions used here, less their prefix WGFMU_, with their arguments; each returns an int, 0 for success."""

SEQUENCER_NOT_RUNNING = -13


class OperationMode(IntEnum):
    """Argument of WGFMU_setOperationMode."""

    DC = 2000
    FASTIV = 2001


class ForceRange(IntEnum):
    """Argument of WGFMU_setForceVoltageRange."""

    V3 = 3001
    V5 = 3002
    V10_NEGATIVE = 3003
    V10_POSITIVE = 3004


class MeasureMode(IntEnum):
    """Argument of WGFMU_setMeasureMode."""

    VOLTAGE = 4000
    CURRENT = 4001


class VoltageRange(IntEnum):
    """Argument of WGFMU_setMeasureVoltageRange."""

    V5 = 5001
    V10 = 5002


class CurrentRange(IntEnum):
    """Argument of WGFMU_setMeasureCurrentRange."""

    UA1 = 6001
    UA10 = 6002
    UA100 = 6003
    MA1 = 6004
    MA10 = 6005


class Status(IntEnum):
    """What WGFMU_getStatus tells."""

    COMPLETED = 10000
    DONE = 10001
    RUNNING = 10002
    ABORT_COMPLETED = 10003
    ABORTED = 10004
    RUNNING_ILLEGAL = 10005
    IDLE = 10006


AVERAGED = 12000
"""Argument of WGFMU_setMeasureEvent: one value per sample, averaged."""


def load_library(file: str = FILE) -> object:
    """Load the maker's library.

    Raises:
        BenchFailure: it is not there, cannot be loaded, or lacks a function.
    """
    where = "the maker's B1530A Instrument Library, which exists for Windows only: get it from Keysight and install it"
    loader = getattr(ctypes, "WinDLL", None)
    if loader is None:
        raise BenchFailure(f"{NAME}: {file} is missing; it is {where} on a Windows PC")
    try:
        library: object = loader(file)
    except OSError as error:
        raise BenchFailure(
            f"{NAME}: {file} is missing or is not for this Python (32 or 64 bit): {error}; it is {where}"
        ) from error
    for name, arguments in SIGNATURES.items():
        function = getattr(library, f"WGFMU_{name}", None)
        if function is None:
            raise BenchFailure(f"{NAME}: {file} has no function WGFMU_{name}; it is no version of {where}")
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library


class Wgfmu:
    """The library with its return codes as exceptions.

    Args:
        library: the loaded library, or any object with the same functions; None loads the maker's.
    """

    def __init__(self, library: object | None = None) -> None:
        self._library = load_library() if library is None else library

    def call(self, name: str, *arguments: Any) -> None:
        """Call WGFMU_``name``.

        Raises:
            InstrumentError: it returned anything but 0.
            LinkError: the library itself failed.
        """
        code = self._code(name, *arguments)
        if code != 0:
            raise InstrumentError(NAME, f"WGFMU_{name}", [(code, text) for text in self._errors()])

    def integers(self, name: str, count: int, *arguments: Any) -> list[int]:
        """Call WGFMU_``name``, whose last ``count`` arguments are pointers to ints, and return these."""
        out = [ctypes.c_int() for _ in range(count)]
        self.call(name, *arguments, *(ctypes.pointer(value) for value in out))
        return [value.value for value in out]

    def channel_ids(self) -> list[int]:
        """Return the channels that are installed."""
        (size,) = self.integers("getChannelIdSize", 1)
        ids = (ctypes.c_int * max(size, 1))()
        self.call("getChannelIds", ids, ctypes.pointer(ctypes.c_int(size)))
        return list(ids)[:size]

    def status(self) -> int:
        """Return what all channels together do, one of ``Status`` where the library keeps to its manual."""
        status = ctypes.c_int()
        elapsed, total = ctypes.c_double(), ctypes.c_double()
        self.call("getStatus", *(ctypes.pointer(value) for value in (status, elapsed, total)))
        return status.value

    def values(self, channel: int, size: int) -> tuple[list[float], list[float], int]:
        """Return times, values and their number as the library told it; at most ``size``."""
        times, values = (ctypes.c_double * size)(), (ctypes.c_double * size)()
        told = ctypes.c_int(size)
        self.call("getMeasureValues", channel, 0, ctypes.pointer(told), times, values)
        return list(times), list(values), told.value

    def _code(self, name: str, *arguments: Any) -> int:
        try:
            return int(getattr(self._library, f"WGFMU_{name}")(*arguments))
        except OSError as error:
            raise LinkError(f"{NAME}: the library failed in WGFMU_{name}: {error}") from error

    def _errors(self) -> list[str]:
        """What the library says about its last refusal; it forgets what was read."""
        texts: list[str] = []
        size = ctypes.c_int()
        while len(texts) < MOST_ERRORS:
            if self._code("getErrorSize", ctypes.pointer(size)) != 0 or size.value <= 0:
                break
            buffer = ctypes.create_string_buffer(size.value + 1)
            if self._code("getError", buffer, ctypes.pointer(size)) != 0:
                break
            texts.append(" ".join(buffer.value.decode("ascii", "replace").split()))
        return texts if texts else ["the library gives no text"]
