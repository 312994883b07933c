"""The role of a temperature source: one that brings the chip to a temperature and says when it has settled."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from drivers.roles import Instrument


class TemperatureReading(NamedTuple):
    """What a temperature source measures.

    Attributes:
        air_c: temperature of what reaches the chip, in degrees Celsius.
        device_c: temperature of a sensor at the chip, in degrees Celsius; None without a sensor.
        settled: the temperature has stayed inside its window for the soak time.
    """

    air_c: float
    device_c: float | None
    settled: bool


class TemperatureSource(Instrument, Protocol):
    """A source of heat and cold. Switching it off lets the chip drift to the room's temperature."""

    def set_temperature(self, celsius: float, window_c: float = 1.0, soak_s: float = 30.0) -> None:
        """Set the temperature to reach and what counts as reached, and check the read-back. The flow stays as it is.

        Args:
            celsius: degrees Celsius.
            window_c: largest deviation, in degrees Celsius.
            soak_s: how long the temperature must have stayed inside the window, in s.

        Raises:
            LimitError: outside the source's range or the envelope; nothing is sent.
        """

    def set_flow(self, on: bool) -> None:
        """Switch heating and cooling on or off, and check the read-back.

        Raises:
            BenchFailure: it is to be switched on and no temperature has been set: it would be anybody's.
        """

    def set_head(self, down: bool) -> None:
        """Move the part that covers the chip down or up, and wait until it is there."""

    def measure(self) -> TemperatureReading:
        """Measure the temperatures, and whether they have settled.

        Raises:
            ReplyError: a sensor gives no valid temperature.
            BenchFailure: the source reports a fault of its own.
        """
