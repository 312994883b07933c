"""The simulated chip: an array of 2T2R cells with sense amplifiers, made of the models and of nothing else.

All that is random comes from generators spawned from the seed, one each for fabrication, programming, weak RESET,
sensing, damage and the readings of a meter, so that the same exchanges give the same answers bit by bit. Time stands
still unless it is told to pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.simulated.pulsing import ceiling_chance, checked_devices, reaches_reset, reaches_set
from models import sense
from models.arrays import NumpyArrays
from models.cells import Device, DeviceMask, DeviceState, Geometry, Polarity
from models.device_model import DeviceModel, Sense
from models.devices import ageing, rram
from models.devices.weak_reset import WeakResetDevices
from models.exceptions import UserMistake
from models.sense import Corner, Margins, PreparedXnor

if TYPE_CHECKING:
    from drivers.simulated.world import Rails


class SimulatedChip:
    """A chip in the socket.

    The chip does nothing while VDD is below its core threshold, and no device is reached while VDDR does not open the
    access transistors. What a pulse does depends on the supplies alone:

    - SET polarity forms virgin devices (each has its own forming voltage, met by the FORM supplies for nearly all) and
      sets the others above the SET thresholds. The SET supplies exceed the forming voltage and form too, as they do on
      a real chip; RESET does nothing to a virgin device.
    - RESET polarity resets above the RESET thresholds. Below them, from the weak-RESET onset on, it moves LRS devices
      up a little; a device whose drift reaches the ceiling is in the HRS.

    The LRS population is the one read just after a SET: the weak-RESET model's ratio is counted from there.

    Programming wears devices out, storage lets them drift, and what is read depends on the temperature.

    Args:
        model: the device population, the cell and the sense amplifier.
        geometry: size of the whole, in cells.
        seed: of everything random; two chips of one seed are equal.
        chip_id: identifier that the board reports.
        arrays: how many arrays with sense amplifiers of their own are stacked, row upon row, into ``geometry``.
        corner: process corner of the transistors.

    Raises:
        UserMistake: the rows cannot be shared out evenly to the arrays.
    """

    def __init__(
        self,
        model: DeviceModel,
        geometry: Geometry,
        seed: int,
        chip_id: str,
        arrays: int = 1,
        corner: Corner = Corner.TT,
    ) -> None:
        if arrays < 1 or geometry.rows % arrays:
            raise UserMistake(f"{geometry.rows} rows cannot be shared out to {arrays} arrays; the rest must be 0")
        self.model = model
        self.geometry = geometry
        self.chip_id = chip_id
        fabrication, self._programming, drift, self._sensing, self._damage, self._metering = (
            np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)
        )
        shape = (geometry.rows, geometry.cols, len(Device))
        self._deviates = rram.draw_deviates(shape, fabrication)
        self._state = rram.fabricated_states(model, shape, fabrication)
        self._resistance = np.where(
            self._state == DeviceState.VIRGIN,
            rram.virgin_ohm(model.virgin, self._deviates.virgin),
            rram.broken_ohm(model, self._state, self._deviates, fabrication),
        )
        offsets = fabrication.standard_normal((arrays, geometry.cols))
        self._corner = corner
        self._temperature_c = model.temperature.reference_c
        self._amplifiers = sense.SenseAmplifiers(self._sense_here(), offsets, geometry.rows // arrays)
        self._ageing = ageing.Ageing(model, shape, fabrication)
        # what sensing needs of the present resistances, kept until something changes them
        self._seen: NDArray[np.float64] | None = None
        self._cells: tuple[tuple[float, float], Margins] | None = None
        self._xnor: tuple[tuple[float, float, Geometry], PreparedXnor] | None = None
        self._weak = WeakResetDevices(model.weak_reset, shape, NumpyArrays(drift))
        # ln R0 of each device, as it stood after the last SET
        self._log_base = np.zeros(shape)
        self._connected: tuple[int, int, int] | None = None

    @property
    def state(self) -> NDArray[np.int8]:
        """State of each device, values of DeviceState, ``(rows, cols, 2)``; a copy."""
        moved = self._weak.log_ratio >= np.log(self.model.weak_reset.intermediate_ratio)
        return np.where(moved & (self._state == DeviceState.LRS), np.int8(DeviceState.INTERMEDIATE), self._state)

    @property
    def resistance_ohm(self) -> NDArray[np.float64]:
        """Resistance of each device in ohm, here and now, ``(rows, cols, 2)``; a copy."""
        return self._resistance_now().copy()

    @property
    def cycles(self) -> NDArray[np.int64]:
        """How many times each device went from the HRS to the LRS, ``(rows, cols, 2)``; a copy."""
        return self._ageing.cycles.copy()

    @property
    def wear(self) -> NDArray[np.float64]:
        """Used share of each device's cyclability, ``(rows, cols, 2)``; a copy."""
        return self._ageing.wear.copy()

    @property
    def temperature_c(self) -> float:
        """Temperature of the chip in degC."""
        return self._temperature_c

    @temperature_c.setter
    def temperature_c(self, temperature_c: float) -> None:
        self._temperature_c = ageing.checked_temperature(self.model.temperature, temperature_c)
        self._amplifiers.sense = self._sense_here()
        self._changed()

    def advance(self, seconds: float) -> None:
        """Let time pass at the present temperature: programmed devices drift.

        Raises:
            UserMistake: the time is negative or not finite.
        """
        self._ageing.advance(seconds, self._temperature_c)
        self._changed()

    @property
    def connected(self) -> tuple[int, int, Device] | None:
        """Which device is on the direct-access pads: ``(row, col, device)``, or None."""
        if self._connected is None:
            return None
        row, col, device = self._connected
        return row, col, Device(device)

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int, rails: Rails) -> None:
        """Apply ``count`` pulses of ``width_s`` to each selected device; they act at once, in closed form.

        Args:
            devices: ``(rows, cols, 2)`` bool, BL first.
            rails: what the supply pins see.

        Raises:
            UserMistake: the mask has another shape or type, the width is not positive, or the count is below 0.
        """
        mask = checked_devices(devices, self._state.shape, (width_s,), count)
        if count == 0 or not self._reached(rails):
            return
        at, hrs, endurance = self.model.thresholds, self.model.hrs, self.model.endurance
        if polarity == Polarity.SET:
            current = rram.compliance_a(self.model.lrs, rails.vddr_v)
            switching = np.zeros_like(mask)
            if reaches_set(at, rails):
                switching = self._survivors(mask, count * ageing.set_wear(endurance, current, width_s))
            if rails.vddr_v >= at.form_vddr_v:
                switching |= self._forming(mask, rails.vddc_v, at.form_vddc_v, count)
            self._to_lrs(switching, current)
        elif reaches_reset(at, rails):
            device_v = rram.reset_device_v(hrs, rails.vddc_v, rails.vddr_v)
            worked = self._survivors(mask, count * ageing.reset_wear(endurance, device_v, width_s))
            self._to_hrs(worked, device_v, width_s)
        else:
            self._weak_reset(mask, rram.reset_device_v(hrs, rails.vddc_v, rails.vddr_v), width_s, count)

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int, rails: Rails) -> None:
        """Apply ``count`` times a SET and a RESET pulse to each selected device, at rails that stand still.

        The same in distribution as so many pairs of :meth:`pulse`, in a time that does not depend on how many. Where
        the rails do not reach RESET, each SET is followed by a weak RESET or by nothing; where they do not reach SET,
        RESET or weak RESET acts alone. Virgin devices join in with the SET pulse that forms them.

        Raises:
            UserMistake: as :meth:`pulse`.
        """
        mask = checked_devices(devices, self._state.shape, (set_width_s, reset_width_s), count)
        if count == 0 or not self._reached(rails):
            return
        endurance = self.model.endurance
        current = rram.compliance_a(self.model.lrs, rails.vddr_v)
        device_v = rram.reset_device_v(self.model.hrs, rails.vddc_v, rails.vddr_v)
        at = self.model.thresholds
        sets, resets = reaches_set(at, rails), reaches_reset(at, rails)
        weak = not resets and device_v >= self.model.weak_reset.onset_v
        left = np.full(mask.shape, count, dtype=np.int64)
        formed = self._form_on_the_way(mask, rails, left)
        self._to_lrs(formed, current)
        acting = mask & (self._switchable if sets or resets else self._state == DeviceState.LRS)
        stuck, lived = self._ageing.alternate(
            acting,
            left,
            ageing.set_wear(endurance, current, set_width_s) if sets else 0.0,
            ageing.reset_wear(endurance, device_v, reset_width_s) if resets or weak else 0.0,
            formed,
        )
        if sets:
            # the first SET is a cycle of what was in the HRS; each later one, of what the RESET before took there
            chance = np.full(mask.shape, float(resets))
            if weak:
                chance = ceiling_chance(self.model, self._weak, self._deviates.lrs, current, device_v, reset_width_s)
            later = self._programming.binomial(np.maximum(lived - 1, 0), chance)
            self._ageing.cycles += later + ((lived > 0) & (self._state == DeviceState.HRS))
        self._wear_out(stuck)
        alive = acting & ~stuck
        if resets:
            self._to_hrs(alive, device_v, reset_width_s)
        elif sets:
            if weak:
                # All but the last SET leave no trace but in the traps, which go on through a SET.
                self._weak.apply(np.where(alive, left - 1, 0), device_v, reset_width_s)
            self._state[alive] = DeviceState.LRS
            self._to_lrs(alive, current)
            left[...] = 1
        if weak:
            self._move_up(alive, np.where(alive, left, 0), device_v, reset_width_s)

    def sense(self, rails: Rails, precharge_s: float, window_s: float, repeats: int) -> NDArray[np.int8]:
        """Sense the whole array: ``(repeats, rows, cols)``, +1, -1, or 0 for undecided.

        A core or word lines that are not supplied, or too short a precharge, leave every cell undecided.
        """
        if not self._senses(rails, precharge_s):
            return np.zeros((repeats, *self.geometry), dtype=np.int8)
        cells = self._margins(rails.vdd_v, window_s)
        return self._amplifiers.read(cells, rails.vdd_v, repeats, self._sensing)

    def xnor(
        self, inputs: NDArray[np.int8], rails: Rails, precharge_s: float, window_s: float, geometry: Geometry
    ) -> NDArray[np.int16]:
        """XNOR ``inputs`` with the upper left ``geometry`` cells and sum the agreements of each row.

        Args:
            inputs: ``(n, geometry.cols)`` of -1 and +1.

        Returns:
            ``(n, geometry.rows)``: agreements minus disagreements, undecided cells counting zero.

        Raises:
            UserMistake: the geometry does not fit into the array, or the inputs have another shape or value.
        """
        if not (0 < geometry.rows <= self.geometry.rows and 0 < geometry.cols <= self.geometry.cols):
            raise UserMistake(f"a part of {tuple(geometry)} cells does not fit into {tuple(self.geometry)}")
        if inputs.ndim != 2 or inputs.shape[1] != geometry.cols or not (np.abs(inputs) == 1).all():
            raise UserMistake(f"inputs must be -1 and +1 of shape (n, {geometry.cols}), not {inputs.shape}")
        if not self._senses(rails, precharge_s):
            return np.zeros((len(inputs), geometry.rows), dtype=np.int16)
        asked = rails.vdd_v, window_s, geometry
        if self._xnor is None or self._xnor[0] != asked:
            whole = self._margins(rails.vdd_v, window_s)
            cells = Margins(*(part[: geometry.rows, : geometry.cols] for part in whole))
            self._xnor = asked, self._amplifiers.prepare_xnor(cells, rails.vdd_v)
        return self._xnor[1].sums(inputs, self._sensing)

    def connect(self, row: int, col: int, device: Device) -> None:
        """Connect one device, and no other, to the direct-access pads.

        Raises:
            UserMistake: there is no such cell.
        """
        if not (0 <= row < self.geometry.rows and 0 <= col < self.geometry.cols):
            raise UserMistake(f"there is no cell ({row}, {col}) in an array of {tuple(self.geometry)}")
        self._connected = (row, col, int(Device(device)))

    def disconnect(self) -> None:
        """Connect no device to the direct-access pads."""
        self._connected = None

    def force_direct(self, volts: float, compliance_a: float, rails: Rails) -> tuple[float, float]:
        """Force a voltage on the pads with a current limit, and return the true voltage in V and current in A.

        True but for what the device itself adds: its resistance fluctuates from one call to the next.

        A positive voltage works in the SET direction, a negative one in the RESET direction. Whatever the connected
        device sees beyond a threshold acts on it once, as one pulse of reference width, before the answer is taken; the
        compliance of a SET is the smaller of ``compliance_a`` and what the access transistor passes. Small voltages
        disturb nothing. Without a connected device, or while the supplies do not open its access transistor, the
        pads are open.
        """
        if self._connected is None or not self._reached(rails):
            return volts, 0.0
        seen_v = _across(volts, compliance_a, float(self._resistance_now()[self._connected]))
        if seen_v != 0.0:
            self._act_directly(self._connected, seen_v, compliance_a, rails)
        resistance = float(self._resistance_now()[self._connected])
        sigma = ageing.read_noise_sigma(self.model.read_noise, resistance)
        resistance *= float(np.exp(sigma * self._metering.standard_normal()))
        true_v = _across(volts, compliance_a, resistance)
        return true_v, true_v / resistance

    def _act_directly(self, device: tuple[int, int, int], seen_v: float, compliance_a: float, rails: Rails) -> None:
        """Do to a device what a voltage on the pads does to it beyond a threshold."""
        at, endurance, width_s = self.model.thresholds, self.model.endurance, self.model.hrs.width_ref_s
        breaks_v = self.model.absolute_maximum.direct_v
        if 0.0 < seen_v < min(at.set_direct_v, breaks_v) and self._state[device] != DeviceState.VIRGIN:
            return  # a reading, as most are: there is nothing to form, and no array to go through
        mask = np.zeros(self._state.shape, dtype=bool)
        mask[device] = True
        if abs(seen_v) > breaks_v:
            self._damage_for_good(mask)
        elif seen_v > 0.0:
            current_a = min(compliance_a, rram.compliance_a(self.model.lrs, rails.vddr_v))
            switching = self._forming(mask, seen_v, at.form_direct_v, 1)
            if seen_v >= at.set_direct_v:
                switching |= self._survivors(mask, ageing.set_wear(endurance, current_a, width_s))
            self._to_lrs(switching, current_a)
        elif -seen_v >= at.reset_direct_v:
            worked = self._survivors(mask, ageing.reset_wear(endurance, -seen_v, width_s))
            self._to_hrs(worked, -seen_v, width_s)
        else:
            self._weak_reset(mask, -seen_v, self.model.weak_reset.width_ref_s, 1)

    def expose(self, rails: Rails) -> None:
        """The supply pins now see ``rails``; beyond an absolute maximum, some devices break for good."""
        limit = self.model.absolute_maximum
        if rails.vdd_v > limit.vdd_v or rails.vddc_v > limit.vddc_v or rails.vddr_v > limit.vddr_v:
            self.surge()

    def surge(self) -> None:
        """The supplies come or go at once, as when needles touch down on a live die: some devices break for good."""
        self._damage_for_good(self._damage.random(self._state.shape) < self.model.absolute_maximum.damage_fraction)

    def _reached(self, rails: Rails) -> bool:
        """Whether the core works and the word lines open the access transistors."""
        return rails.vdd_v >= self.model.thresholds.core_vdd_v and rails.vddr_v > self.model.lrs.gate_threshold_v

    def _senses(self, rails: Rails, precharge_s: float) -> bool:
        return self._reached(rails) and precharge_s >= self.model.sense.precharge_min_s

    def _sense_here(self) -> Sense:
        """The sense amplifiers at the present temperature and in the chip's corner."""
        return sense.at_conditions(self.model.sense, self._temperature_c, self._corner)

    def _resistance_now(self) -> NDArray[np.float64]:
        """Resistances after drift, at the present temperature; not to be written to."""
        if self._seen is None:
            seen = self._resistance
            drift = self._ageing.log_drift
            if drift is not None:
                seen = seen * np.exp(drift)
            if self._temperature_c != self.model.temperature.reference_c:
                seen = seen * ageing.temperature_factors(self.model.temperature, self._state, self._temperature_c)
            self._seen = seen
        return self._seen

    def _margins(self, vdd_v: float, window_s: float) -> Margins:
        """How the cells stand before offset and noise."""
        if self._cells is None or self._cells[0] != (vdd_v, window_s):
            cells = sense.margins(self._amplifiers.sense, self._resistance_now(), vdd_v, window_s)
            self._cells = (vdd_v, window_s), cells
        return self._cells[1]

    def _changed(self) -> None:
        """Something has changed the resistances or the amplifiers."""
        self._seen = self._cells = self._xnor = None

    def _store(self, mask: DeviceMask, ohm: NDArray[np.float64]) -> None:
        """New resistances of the devices of ``mask``, at the reference temperature and before drift."""
        self._resistance[mask] = ohm
        self._changed()

    @property
    def _switchable(self) -> NDArray[np.bool_]:
        """Devices that SET and RESET act on."""
        return np.asarray((self._state == DeviceState.LRS) | (self._state == DeviceState.HRS))

    def _forming(self, mask: DeviceMask, applied_v: float, median_v: float, count: int) -> NDArray[np.bool_]:
        """Virgin devices of ``mask`` that form now."""
        virgin: NDArray[np.bool_] = mask & (self._state == DeviceState.VIRGIN)
        if not virgin.any():  # as on nearly every pulse, and a board must keep up with its line
            return virgin
        deviates = self._deviates.forming[virgin]
        virgin[virgin] = rram.formed(self.model.thresholds, applied_v, median_v, deviates, count, self._programming)
        return virgin

    def _form_on_the_way(self, mask: DeviceMask, rails: Rails, left: NDArray[np.int64]) -> DeviceMask:
        """Virgin devices of ``mask`` that form within ``left`` cycles; their ``left`` starts with the forming pulse."""
        at = self.model.thresholds
        formed: DeviceMask = mask & (self._state == DeviceState.VIRGIN) & (rails.vddr_v >= at.form_vddr_v)
        deviates = self._deviates.forming[formed]
        needed = rram.forming_pulses(at, rails.vddc_v, at.form_vddc_v, deviates, self._programming)
        enough = needed <= left[formed]
        formed[formed] = enough
        left[formed] -= needed[enough].astype(np.int64) - 1
        return formed

    def _survivors(self, mask: DeviceMask, wear: float) -> DeviceMask:
        """Devices of ``mask`` that can switch and still do after this wear; worn-out ones stick in the LRS."""
        switching = mask & self._switchable
        stuck = self._ageing.stress(switching, wear)
        self._wear_out(stuck)
        return switching & ~stuck

    def _wear_out(self, stuck: DeviceMask) -> None:
        """These devices stick in the LRS from now on."""
        if stuck.any():
            self._break(stuck, np.full(int(stuck.sum()), DeviceState.STUCK_LRS, dtype=np.int8))

    def _to_lrs(self, mask: DeviceMask, current_a: float) -> None:
        if not mask.any():
            return
        self._ageing.cycles[mask & (self._state == DeviceState.HRS)] += 1
        self._state[mask] = DeviceState.LRS
        self._store(mask, rram.draw_lrs(self.model.lrs, current_a, self._deviates.lrs[mask], self._programming))
        self._ageing.programmed(mask, DeviceState.LRS, self._programming)
        # R = R0 exp(w) with R0 read just after the SET, so none is drawn; traps keep their state. The offset c1 and the
        # noise come with the first pulse
        self._weak.stress[mask] = 0.0
        self._log_base[mask] = np.log(self._resistance[mask])

    def _to_hrs(self, mask: DeviceMask, device_v: float, width_s: float) -> None:
        self._state[mask] = DeviceState.HRS
        deviates, change = self._deviates.hrs[mask], self._ageing.hrs_change(mask)
        self._store(mask, rram.draw_hrs(self.model.hrs, device_v, width_s, deviates, self._programming, change))
        self._ageing.programmed(mask, DeviceState.HRS, self._programming)

    def _weak_reset(self, mask: DeviceMask, device_v: float, width_s: float, count: int) -> None:
        if device_v < self.model.weak_reset.onset_v:
            return
        wear = count * ageing.reset_wear(self.model.endurance, device_v, width_s)
        moved = self._survivors(mask & (self._state == DeviceState.LRS), wear)
        if moved.any():
            self._move_up(moved, np.where(moved, count, 0), device_v, width_s)

    def _move_up(self, moved: DeviceMask, counts: NDArray[np.int64], device_v: float, width_s: float) -> None:
        """What ``counts`` weak RESETs do to the devices of ``moved``, all in the LRS; wear is not counted here."""
        self._weak.apply(counts, device_v, width_s)
        ceiling = self.model.weak_reset.ceiling_ohm
        log_r = np.minimum(self._log_base[moved] + self._weak.log_ratio[moved], np.log(ceiling))
        self._store(moved, np.exp(log_r))
        self._state[moved & (self._resistance >= ceiling)] = DeviceState.HRS

    def _damage_for_good(self, mask: DeviceMask) -> None:
        """Break the devices of ``mask`` that are not broken yet, each in one of the ways of breaking."""
        breaking = mask & ~np.isin(self._state, rram.BROKEN_STATES)
        self._break(breaking, rram.damaged_states(int(breaking.sum()), self._damage))

    def _break(self, mask: DeviceMask, states: rram.States) -> None:
        """The devices of ``mask`` are broken from now on, in these states ``(n,)``."""
        self._state[mask] = states
        deviates = rram.Deviates(*(deviate[mask] for deviate in self._deviates))
        self._store(mask, rram.broken_ohm(self.model, states, deviates, self._damage))
        self._ageing.broken(mask)


def _across(volts: float, compliance_a: float, resistance_ohm: float) -> float:
    """Voltage at a device when the source is limited to ``compliance_a``."""
    limit = compliance_a * resistance_ohm
    return min(max(volts, -limit), limit)
