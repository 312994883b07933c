"""What can go wrong on a wire."""

from __future__ import annotations

from models.exceptions import BenchFailure, UserMistake


class LimitError(UserMistake):
    """A value was refused before anything was sent; the text names the layer and the allowed range."""


class LinkError(BenchFailure):
    """The link is closed, broke, or nobody answers at the far end."""


class LinkTimeout(LinkError):
    """No reply in time. The link is out of step until it is cleared and the instrument identified again."""


class ReplyError(BenchFailure):
    """A reply came that is not what the question allows (garbled, doubled, not a number, overflow)."""


class InstrumentError(BenchFailure):
    """The instrument's own error queue was not empty."""

    def __init__(self, instrument: str, command: str, errors: list[tuple[int, str]]) -> None:
        self.instrument, self.command, self.errors = instrument, command, errors
        listed = "; ".join(f'{code}, "{text}"' for code, text in errors)
        super().__init__(f"{instrument} refused {command!r}: {listed}")


class ReadBackError(BenchFailure):
    """What was set reads back as something else, by more than the instrument's resolution."""


class TakenAway(ReadBackError):
    """What this session had switched on or moved, somebody else switched off or moved: it is no fault of the chip."""


class WrongInstrument(BenchFailure):
    """Something else answers at this address than the bench file says."""


class InDoubt(BenchFailure):
    """A pulse was sent and its acknowledgement never came: nobody knows whether it acted.

    Attributes:
        devices: indices ``(row, col, device)`` of the devices in doubt.
    """

    def __init__(self, message: str, devices: list[tuple[int, int, int]]) -> None:
        self.devices = devices
        cells = sorted({(row, col) for row, col, _ in devices})
        shown = ", ".join(f"({row}, {col})" for row, col in cells[:8])
        more = f" and {len(cells) - 8} more" if len(cells) > 8 else ""
        super().__init__(f"{message}; cells in doubt: {shown or 'none'}{more}")
