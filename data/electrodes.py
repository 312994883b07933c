"""The twelve leads of an electrocardiogram, the nine electrodes behind them, and electrodes that were exchanged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
ELECTRODES = ("RA", "LA", "LL", "C1", "C2", "C3", "C4", "C5", "C6")
"""Right arm, left arm, left leg (the right leg is the reference), and six on the chest."""


def _leads_matrix() -> NDArray[np.float64]:
    right, left, leg = np.eye(9)[:3]
    wilson = (right + left + leg) / 3.0
    limb = [left - right, leg - right, leg - left]
    augmented = [right - (left + leg) / 2.0, left - (right + leg) / 2.0, leg - (right + left) / 2.0]
    return np.stack([*limb, *augmented, *(np.eye(9)[3:] - wilson)])


def _potentials_matrix() -> NDArray[np.float64]:
    """With Wilson's central terminal at 0 V: RA = -(I + II)/3, LA = (2 I - II)/3, LL = (2 II - I)/3, Cn = Vn."""
    matrix = np.zeros((9, 12))
    matrix[0, :2] = -1.0 / 3.0, -1.0 / 3.0
    matrix[1, :2] = 2.0 / 3.0, -1.0 / 3.0
    matrix[2, :2] = -1.0 / 3.0, 2.0 / 3.0
    matrix[3:, 6:] = np.eye(6)
    return matrix


LEADS_FROM_POTENTIALS = _leads_matrix()
"""``(12, 9)``: leads from the potentials of the electrodes. I = LA - RA, II = LL - RA, III = LL - LA,
aVR = RA - (LA + LL)/2 and alike, Vn = Cn - (RA + LA + LL)/3."""
POTENTIALS_FROM_LEADS = _potentials_matrix()
"""``(9, 12)``: potentials against Wilson's central terminal, from leads I, II and V1 to V6; the others follow from
those two."""


def leads_with_electrodes(leads: NDArray[np.float32], order: tuple[str, ...] = ELECTRODES) -> NDArray[np.float32]:
    """The leads as they would have been with the electrodes attached in another order.

    Args:
        leads: ``(..., 12, samples)``, in the order of :data:`LEADS`.
        order: which electrode sits where each of :data:`ELECTRODES` belongs; as they are by default, which computes
            leads III and aVR to aVF anew from I and II.

    Returns:
        The same shape.

    Raises:
        UserMistake: ``order`` names not each electrode once.
    """
    if sorted(order) != sorted(ELECTRODES):
        raise UserMistake(f"electrodes {', '.join(order)} were to be attached, each of {', '.join(ELECTRODES)} once")
    places = [ELECTRODES.index(name) for name in order]
    matrix = LEADS_FROM_POTENTIALS @ POTENTIALS_FROM_LEADS[places]
    return (matrix.astype(np.float32) @ leads).astype(np.float32)


def exchanged(first: str, second: str) -> tuple[str, ...]:
    """The order of the electrodes with two of them in each other's place, such as RA and LA."""
    for name in (first, second):
        if name not in ELECTRODES:
            raise UserMistake(f"there is no electrode {name!r}; there are {', '.join(ELECTRODES)}")
    change = {first: second, second: first}
    return tuple(change.get(name, name) for name in ELECTRODES)
