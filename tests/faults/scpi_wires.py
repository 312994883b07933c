"""Faults on the wires of the SCPI and TSP instruments: no wrong number as a plain one, no setting taken on trust.

SCPI has no checksum. What arrives as a number of due form is a number: no client can tell that a digit was flipped,
lost or doubled on the way, unless it asks twice. Our drivers do ask after every change, so that a setting is never
wrong unseen; a measurement may be. Where a fault made another legal answer of an answer, it is counted as undetectable
and not as survived.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from drivers.errors import InDoubt, InstrumentError, LinkError, ReplyError
from drivers.keysight_81160a import Keysight81160A
from drivers.pulse_source_role import PulseShape
from models.exceptions import BenchFailure
from tests.faults.campaign import Campaign, Row
from tests.faults.mangling import MANGLERS
from tests.faults.victims import NUMBER, TIMEOUT_S, VICTIMS, Reading, Setting, Victim, numbers, pulses_81160a

STRIKES = 0.35
"""Part of the messages of a call of which the first that is chosen is hit: one fault for each call."""

SETS = 0.55
"""Part of the calls that change a setting."""

ROWS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "SCPI replies: bits flipped": (("reply flipped",), 600),
    "SCPI replies: bytes lost": (("reply lost",), 400),
    "SCPI replies: bytes doubled": (("reply doubled",), 300),
    "SCPI replies: cut": (("reply cut",), 300),
    "SCPI commands: bits flipped": (("command flipped",), 600),
    "SCPI commands: bytes lost, doubled or cut": (("command lost", "command doubled", "command cut"), 600),
    "SCPI: late replies": (("late",), 150),
    "SCPI: missing replies": (("missing",), 150),
    "SCPI: disconnects": (("disconnect", "disconnect before"), 300),
}
"""Kinds of each row, and their number at full scale."""

PULSE = PulseShape(base_v=0.0, top_v=1.0, width_s=1e-6, leading_s=1e-8, trailing_s=1e-8)
PEAK_V = 2.0
"""What a level of 1 V into the load that the source expects is at the open pads of the campaign's world."""

PULSES, DEVICE = 3, (1, 2, 0)

_SEPARATORS = re.compile(r"([,;\t])")


@dataclass
class BadWire:
    """Spoils one message of each call.

    Attributes:
        hit: the message that was hit, and what became of it; None while nothing was.
        clean: the last undamaged reply.
    """

    victim: Victim
    rng: np.random.Generator
    kind: str = ""
    hit: tuple[bytes, bytes] | None = None
    clean: bytes = b""

    def attach(self) -> None:
        """Stand between the client and the instrument."""
        self.victim.wire.server.wire.tamper = self._reply
        self.victim.wire.tap.spoil = self._command

    def arm(self, kind: str) -> None:
        """Spoil the next message that the die chooses."""
        self.kind, self.hit = kind, None

    def disarm(self) -> None:
        """Leave everything as it is from now on."""
        self.kind = ""

    def _strikes(self, where: str) -> bool:
        return self.kind.startswith(where) and self.hit is None and self.rng.random() < STRIKES

    def _command(self, line: bytes) -> bytes:
        if not self._strikes("command "):
            return line
        return self._mangled(line)

    def _reply(self, reply: bytes) -> bytes | None:
        self.clean = reply
        if self._strikes("reply "):
            return self._mangled(reply)
        if self._strikes("late"):
            self.hit = (reply, reply)
            time.sleep(TIMEOUT_S * self.rng.uniform(1.2, 2.0))
        elif self._strikes("missing"):
            self.hit = (reply, b"")
            return None
        elif self.kind == "disconnect" and self._strikes("disconnect"):
            self.hit = (reply, b"")
            self.victim.wire.server.wire.disconnect_all()
            return None
        return reply

    def _mangled(self, data: bytes) -> bytes:
        spoilt = MANGLERS[self.kind.split()[1]](data, self.rng)
        if spoilt != data:
            self.hit = (data, spoilt)
        return spoilt


def legal(clean: bytes, spoilt: bytes) -> bool:
    """Tell whether a damaged answer is as legal as the undamaged one: the same fields, each of them a number."""
    if not spoilt.endswith(b"\n") or b"\n" in spoilt[:-1] or not spoilt.isascii():
        return False
    parts, damaged = (_SEPARATORS.split(text.decode("ascii").strip()) for text in (clean, spoilt))
    return parts[1::2] == damaged[1::2] and all(NUMBER.fullmatch(field.strip()) for field in damaged[::2])


def _outcome(action: Callable[[], str | None]) -> str | None:
    """What a call did wrong; an error of ours is never wrong."""
    try:
        return action()
    except BenchFailure:
        return None
    except Exception as error:  # anything but an error of ours is a loss
        return f"{type(error).__name__} instead of a clear error: {error}"


def _read(wire: BadWire, reading: Reading) -> str | None:
    told = reading.ask()
    truth = reading.truth(numbers(wire.clean.decode("ascii")))
    return None if told == truth else f"reads {told} where the instrument said {truth}"


def _ask_next(victim: Victim, reading: Reading) -> str | None:
    assert reading.place is not None
    told = reading.ask()
    truth = victim.state()[reading.place]
    return None if told == [truth] else f"reads {told} where {truth} is set"


def _set(victim: Victim, wire: BadWire, change: Setting, before: list[float]) -> str | None:
    change.act()
    wire.disarm()
    after = victim.state()
    return None if victim.explains(before, change, after) else f"{change.state} was set, {before} became {after}"


def strike(victim: Victim, wire: BadWire, kind: str, rng: np.random.Generator, row: Row) -> None:
    """One call with one fault in it, then one without, then back in step."""
    setting = rng.random() < SETS
    before = victim.state()
    reading = victim.readings[int(rng.integers(len(victim.readings)))]
    change = victim.setting(rng)
    wire.arm(kind)
    if kind == "disconnect before":
        wire.hit = (b"", b"")
        victim.wire.server.wire.disconnect_all()
    wrong = _outcome(lambda: _set(victim, wire, change, before) if setting else _read(wire, reading))
    wire.disarm()
    if wire.hit is None:
        _mend(victim)
        return
    row.injected += 1
    clean, spoilt = wire.hit
    note = f"{victim.driver.name}: {wrong} ({clean!r} became {spoilt!r})"
    if wrong is not None and not setting and (kind.startswith("command") or legal(clean, spoilt)):
        row.pass_unseen(note)
    elif wrong is not None:
        row.lose(note)
    # Whatever is still on its way must not answer the next question, which is another one.
    others = [each for each in victim.readings if each.place is not None and each is not reading]
    wrong = _outcome(lambda: _ask_next(victim, others[int(rng.integers(len(others)))]))
    if wrong is not None:
        row.lose(f"{victim.driver.name}, the question after it: {wrong} ({clean!r} became {spoilt!r})")
    _mend(victim)


def _mend(victim: Victim) -> None:
    """Back in step on a wire that is good again, as a user would do it; an instrument that was led astray restarts."""
    for _ in range(3):
        try:
            # A new connection leaves half a command behind on the old one, and errors that it caused are cleared.
            victim.driver.resynchronise()
            return
        except InstrumentError:
            victim.wire.server.instrument.power_on()
            victim.wire.link.lose_step("the instrument was switched off and on")
        except (LinkError, ReplyError):
            victim.wire.link.lose_step("the wire was bad")
    raise RuntimeError(f"{victim.driver.name} could not be brought back in step on a good wire")


def trigger(victim: Victim, wire: BadWire, kind: str, row: Row) -> None:
    """One trigger with one fault in it: as many pulses as were asked for, or an error that names the device."""
    source = victim.driver
    assert isinstance(source, Keysight81160A)
    source.set_pulse(PULSE, PULSES, 1e-3)
    source.set_output(True)
    before = len(victim.resistor.forced)
    wire.arm(kind)
    wrong: str | None = None
    allowed = range(PULSES, PULSES + 1)
    try:
        source.trigger([DEVICE])
    except InDoubt as error:
        wrong = None if error.devices == [DEVICE] else "the device in doubt is not named"
        allowed = range(PULSES + 1)
    except BenchFailure:
        allowed = range(1)  # nothing was sent, says the error
    except Exception as error:  # anything but an error of ours is a loss
        wrong = f"{type(error).__name__} instead of a clear error: {error}"
    wire.disarm()
    _mend(victim)
    if wire.hit is None:
        return
    row.injected += 1
    pulses = sum(volts == PEAK_V for volts, _ in victim.resistor.forced[before:])
    clean, spoilt = wire.hit
    note = f"{pulses} of {PULSES} pulses ({clean!r} became {spoilt!r})"
    # A trigger that vanishes as a whole, or comes twice, looks like any other: SCPI does not number its messages.
    unseen = clean.startswith(b"*TRG") and (not spoilt.strip() or spoilt.count(b"*TRG") > 1)
    if wrong is None and pulses not in allowed and unseen:
        row.pass_unseen(note)
    elif wrong is not None or pulses not in allowed:
        row.lose(note if wrong is None else f"{wrong}: {note}")


def run_triggers(campaign: Campaign) -> None:
    """Faults around a pulse source's trigger."""
    row = campaign.row("SCPI: faults around a trigger", 300)
    started = time.monotonic()
    rng, on_line = campaign.rng("trigger").spawn(2)
    kinds = [kind for some, _ in ROWS.values() for kind in some if kind != "disconnect before"]
    with pulses_81160a(rng) as victim:
        wire = BadWire(victim, on_line)
        wire.attach()
        while row.injected < row.total:
            trigger(victim, wire, str(rng.choice(kinds)), row)
            campaign.tell(row)
    campaign.finish(row, time.monotonic() - started)


def run(campaign: Campaign) -> None:
    """All rows; every instrument gets its share of each."""
    for fault, (kinds, full) in ROWS.items():
        row = campaign.row(fault, full)
        started = time.monotonic()
        shares = [(row.total + place) // len(VICTIMS) for place in range(len(VICTIMS))]
        done = 0
        for share, make in zip(shares, VICTIMS, strict=True):
            rng, on_wire, noise = campaign.rng("scpi", fault, make.__name__).spawn(3)
            done += share
            with make(noise) as victim:
                wire = BadWire(victim, on_wire)
                wire.attach()
                while row.injected < done:
                    strike(victim, wire, str(rng.choice(kinds)), rng, row)
                    campaign.tell(row)
        campaign.finish(row, time.monotonic() - started)
    run_triggers(campaign)
