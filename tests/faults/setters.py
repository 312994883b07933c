"""Values that must be refused, zeros and random values, to every setter of every driver."""

from __future__ import annotations

import math
import reprlib
import time
from collections import Counter
from typing import Any

from models.exceptions import UserMistake
from tests.faults.campaign import Campaign, Row
from tests.faults.setter_tables import ZEROS, Numbers, Setter, Stand
from tests.faults.stands import STANDS, all_drivers

WIDE, NARROW = 4.0, 0.5
"""The envelope as a multiple of the instrument's own ranges: once those bind, once the envelope does."""

RANDOM = 1000


def refuse(stand: Stand, row: Row) -> None:
    """Offer every setter everything that it must refuse: an error of the user's, and not one byte."""
    driver = type(stand.driver).__name__
    for setter in stand.setters:
        setter.prepare()
        before = stand.far_end.received()
        for value in setter.bad():
            row.injected += 1
            outcome = _refusal(setter, value)
            if outcome is not None:
                row.lose(f"{driver}.{setter}: {reprlib.repr(value)} {outcome}")
        sent = stand.far_end.received() - before
        if sent:
            row.lose(f"{driver}.{setter}: {sent} bytes were sent for values that are refused")


def _refusal(setter: Setter, value: Any) -> str | None:
    """What is wrong with how a value was refused; None where nothing is."""
    try:
        setter.put(value)
    except UserMistake:
        return None
    except Exception as error:
        return f"raised {type(error).__name__} instead of a clear refusal: {error}"
    return "was accepted"


def zero(stand: Stand, row: Row) -> None:
    """Set every voltage to zero, written in every way: exactly 0 is sent, reads back, and stands at the terminals."""
    driver = type(stand.driver).__name__
    for setter in stand.setters:
        allowed = setter.values
        if setter.volts is None or not isinstance(allowed, Numbers):
            continue
        setter.prepare()
        for value in ZEROS:
            setter.put(allowed.high / 2)
            if setter.volts() == 0.0:
                raise RuntimeError(f"{driver}.{setter}: its terminals do not follow: nothing would be shown")
            row.injected += 1
            setter.put(value)
            sent = stand.far_end.last()
            seen = [setter.volts(), float(setter.get())] if setter.get is not None else [setter.volts()]
            if any(volts != 0.0 or math.copysign(1.0, volts) < 0 for volts in seen) or b"-0" in sent:
                row.lose(f"{driver}.{setter}: {value!r} gives {seen} V, sent as {sent!r}")


def read_back(stand: Stand, campaign: Campaign, row: Row) -> None:
    """Set random values, and ask the instrument each time what it has now."""
    driver = type(stand.driver).__name__
    shares = Counter(setter.name for setter in stand.setters if setter.values is not None and setter.get is not None)
    for setter in stand.setters:
        values = setter.values
        if values is None or setter.get is None:
            continue
        rng = campaign.rng("setters", driver, setter)
        setter.prepare()
        # Each setter gets all of them, shared among its channels or arguments.
        for _ in range(campaign.count(RANDOM // shares[setter.name])):
            value = values.draw(rng)
            row.injected += 1
            try:
                setter.put(value)
                got = setter.get()
            except Exception as error:  # a value that is allowed must be taken
                row.lose(f"{driver}.{setter}: {value!r} raised {type(error).__name__}: {error}")
                setter.prepare()
                continue
            if not values.same(value, got):
                row.lose(f"{driver}.{setter}: set to {value!r}, reads back {got!r}")
        campaign.tell(row)


def run(campaign: Campaign) -> None:
    """The three rows."""
    refused = campaign.row("values that must be refused, to every setter", 1)
    zeros = campaign.row("0 V to every voltage", 1)
    taken = campaign.row("random values to every setter, read back", 1)
    seconds = {id(row): 0.0 for row in (refused, zeros, taken)}

    def timed(row: Row, action: Any, *arguments: Any) -> None:
        started = time.monotonic()
        action(*arguments)
        seconds[id(row)] += time.monotonic() - started

    for driver in all_drivers():
        name = driver.__name__
        if name not in STANDS:
            refused.injected += 1
            refused.lose(f"{driver.__module__}.{name} has no stand in tests/faults/stands.py: it was not tried")
            continue
        with STANDS[name](NARROW) as stand:
            timed(refused, refuse, stand, refused)
        with STANDS[name](WIDE) as stand:
            for missing in stand.uncovered():
                refused.injected += 1
                refused.lose(f"{name}.{missing} is not in the table of its setters: it was not tried")
            timed(refused, refuse, stand, refused)
            timed(zeros, zero, stand, zeros)
            timed(taken, read_back, stand, campaign, taken)
    for row in (refused, zeros, taken):
        row.total = row.injected
        campaign.finish(row, seconds[id(row)])
