"""What the window remembers from one day to the next: its layout, its look, its bench, the wafer it was about."""

from __future__ import annotations

import json
from pathlib import Path

from PyQt5.QtCore import QByteArray, QSettings

from bench.gui.themes import Theme
from bench.session import SIMULATED

VERSION = 1
"""Of the layout; one that was kept for other docks is not used."""


class Memory:
    """Kept between two starts.

    Args:
        settings: where; None forgets everything at the end, for tests and pictures.
    """

    def __init__(self, settings: QSettings | None = None) -> None:
        self._settings = settings
        self._held: dict[str, object] = {}

    @classmethod
    def of_this_person(cls) -> Memory:
        """That of the person who is logged in."""
        return cls(QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "rram-bench", "window"))

    def _get(self, key: str) -> object:
        return self._held.get(key) if self._settings is None else self._settings.value(key)

    def _put(self, key: str, value: object) -> None:
        if self._settings is None:
            self._held[key] = value
        else:
            self._settings.setValue(key, value)

    @property
    def theme(self) -> Theme:
        """The look."""
        kept = self._get("theme")
        return Theme(str(kept)) if kept in list(Theme) else Theme.DESKTOP

    @theme.setter
    def theme(self, value: Theme) -> None:
        self._put("theme", str(value))

    @property
    def bench(self) -> tuple[str, int]:
        """Source and seed of the bench it was connected to last."""
        kept = _parsed(self._get("bench"))
        if isinstance(kept, list) and len(kept) == 2 and isinstance(kept[0], str) and isinstance(kept[1], int):
            return kept[0], kept[1]
        return SIMULATED, 0

    @bench.setter
    def bench(self, value: tuple[str, int]) -> None:
        self._put("bench", json.dumps(value))

    @property
    def wafer(self) -> Path | None:
        """Folder of the wafer that was looked at last; None where none was, or where it is gone."""
        kept = self._get("wafer")
        folder = Path(kept) if isinstance(kept, str) and kept else None
        return folder if folder is not None and folder.is_dir() else None

    @wafer.setter
    def wafer(self, value: Path) -> None:
        # the window may be started in another folder next time
        self._put("wafer", str(value.absolute()))

    @property
    def shares(self) -> dict[str, float]:
        """Share of the width that each workspace's view takes, by name."""
        kept = _parsed(self._get("shares"))
        if not isinstance(kept, dict):
            return {}
        found = {str(name): float(share) for name, share in kept.items() if isinstance(share, int | float)}
        # A share that no splitter can have would keep the window from opening.
        return {name: share for name, share in found.items() if 0.0 < share < 1.0}

    @shares.setter
    def shares(self, value: dict[str, float]) -> None:
        self._put("shares", json.dumps(value))

    @property
    def layout(self) -> tuple[QByteArray, QByteArray] | None:
        """Geometry and state of the window; None where none was kept, or one of an older window."""
        geometry, state = self._get("geometry"), self._get("state")
        if str(self._get("layout_version")) != str(VERSION):
            return None
        if isinstance(geometry, QByteArray) and isinstance(state, QByteArray):
            return geometry, state
        return None

    @layout.setter
    def layout(self, value: tuple[QByteArray, QByteArray] | None) -> None:
        self._put("layout_version", VERSION if value is not None else 0)
        if value is not None:
            self._put("geometry", value[0])
            self._put("state", value[1])

    @property
    def toured(self) -> bool:
        """Whether the first tour was seen."""
        return str(self._get("toured")) == "yes"

    @toured.setter
    def toured(self, value: bool) -> None:
        self._put("toured", "yes" if value else "no")


def _parsed(kept: object) -> object:
    try:
        return json.loads(str(kept))
    except ValueError:
        return None
