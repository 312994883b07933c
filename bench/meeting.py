"""Where several chips that infer one network together bring their sums of a layer, and get those of all."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.procedure import Wait

Sums = NDArray[np.int32]

POLL_S = 0.5
"""A chip that waits for the others lets the runner look after its bench so often; a stop is obeyed within that time."""


@dataclass
class _Layer:
    """The sums of one layer, so far, of each way of inferring; and how many chips brought theirs."""

    sums: list[Sums]
    brought: int = 0


class Meeting:
    """One meeting of the same chips after each layer. Each chip's run is in a thread of its own.

    Args:
        chips: their names.
    """

    def __init__(self, chips: Sequence[str]) -> None:
        self.chips = tuple(chips)
        self._layers: dict[int, _Layer] = {}
        self._changed = threading.Condition()

    def join(self, index: int, sums: Sequence[Sums]) -> Generator[Wait, Any, list[Sums]]:
        """Bring a chip's ``sums`` of layer ``index``, and wait with the outputs off until all have brought theirs.

        Args:
            sums: ``(n, positions, rows)`` for each way of inferring. They are added to, and belong to all from now on.

        Returns:
            The sums of all chips together, to be read only.
        """
        with self._changed:
            layer = self._layers.get(index)
            if layer is None:
                layer = self._layers[index] = _Layer(list(sums))
            else:
                for total, own in zip(layer.sums, sums, strict=True):
                    total += own
            layer.brought += 1
            if layer.brought == len(self.chips):
                # whoever is here has got the sums of the layer before
                self._layers.pop(index - 1, None)
                self._changed.notify_all()
        patience = 0.0
        while not self._all_there(layer, patience):
            yield Wait(0.0, "waiting for the other chips")
            patience = POLL_S
        return layer.sums

    def _all_there(self, layer: _Layer, patience: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: layer.brought == len(self.chips), patience)
