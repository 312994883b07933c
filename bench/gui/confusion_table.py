"""How often each class was answered with each class: a table of counts in colours; a click asks for the samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QAbstractTableModel, QModelIndex, Qt, pyqtSignal
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import QHeaderView, QTableView, QWidget

RIGHT, WRONG = QColor("#0072b2"), QColor("#d55e00")
"""Blue and orange-red: told apart by every colour vision."""

LIGHT, DARK = QColor("#ffffff"), QColor("#16181c")
LEAST_SHADE = 0.12
"""Even one sample is seen."""


class _Counts(QAbstractTableModel):
    def __init__(self, parent: QTableView) -> None:
        super().__init__(parent)
        self.counts: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self.names: Sequence[str] = ()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.counts)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.counts)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role == Qt.ItemDataRole.DisplayRole:
            return self.names[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            across = orientation == Qt.Orientation.Horizontal
            return f"answered {self.names[section]}" if across else f"is {self.names[section]}"
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        row, col = index.row(), index.column()
        count, of_class = int(self.counts[row, col]), int(self.counts[row].sum())
        if role == Qt.ItemDataRole.DisplayRole:
            return str(count) if count or row == col else "·"
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignCenter)
        if role == Qt.ItemDataRole.ToolTipRole:
            share = f" ({count / of_class:.1%})" if of_class else ""
            return f"{count} of {of_class} samples of {self.names[row]}{share} were answered {self.names[col]}"
        if not count:
            return None
        shade = _shade(count / of_class, RIGHT if row == col else WRONG)
        if role == Qt.ItemDataRole.BackgroundRole:
            return shade
        if role == Qt.ItemDataRole.ForegroundRole:
            return DARK if shade.lightnessF() > 0.6 else LIGHT
        return None


def _shade(share: float, hue: QColor) -> QColor:
    """From near white to the full colour; the square root, so that few wrong ones among many are seen."""
    weight = LEAST_SHADE + (1.0 - LEAST_SHADE) * share**0.5
    parts = ((1.0 - weight) + weight * part for part in (hue.redF(), hue.greenF(), hue.blueF()))
    return QColor.fromRgbF(*parts)


class ConfusionTable(QTableView):
    """Rows are the classes of the samples, columns the answers.

    Signals:
        picked(class, answer): somebody wants to see these samples.
    """

    picked = pyqtSignal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._counts = _Counts(self)
        self.setModel(self._counts)
        self.setAccessibleName("confusion: rows are classes, columns are answers")
        self.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        self.setCornerButtonEnabled(False)
        self.clicked.connect(self._on_picked)
        self.activated.connect(self._on_picked)

    def put(self, counts: NDArray[np.int64], names: Sequence[str]) -> None:
        """Show these counts ``(classes, classes)``."""
        model = self._counts
        model.beginResetModel()
        model.counts, model.names = counts, names
        model.endResetModel()
        letter, line = self.fontMetrics().averageCharWidth() + 1, self.fontMetrics().lineSpacing()
        across, down = self.horizontalHeader(), self.verticalHeader()
        assert across is not None
        assert down is not None
        digits = len(str(counts.max(initial=0)))
        least = letter * max(digits, *(min(len(name), 9) for name in names), 2) + 8
        across.setMinimumSectionSize(least)
        few = len(names) * least < 1600
        across.setSectionResizeMode(QHeaderView.ResizeMode.Stretch if few else QHeaderView.ResizeMode.Fixed)
        down.setSectionResizeMode(QHeaderView.ResizeMode.Stretch if few else QHeaderView.ResizeMode.Fixed)
        down.setMinimumSectionSize(line + 4)

    def text(self, row: int, col: int) -> str:
        """What stands there."""
        return str(self._counts.data(self._counts.index(row, col)))

    def _on_picked(self, index: QModelIndex) -> None:
        self.picked.emit(index.row(), index.column())
