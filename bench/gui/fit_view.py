"""Being written: a fit."""

from __future__ import annotations

from PyQt5.QtWidgets import QVBoxLayout, QWidget

from bench.gui.controller import Controller
from bench.gui.style import note


class FitView(QWidget):
    """Being written."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        QVBoxLayout(self).addWidget(note("a fit"))
