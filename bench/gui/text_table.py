"""A table of texts that nobody edits. It costs the same however many rows it has: only what is seen is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PyQt5.QtCore import QAbstractTableModel, QModelIndex, Qt
from PyQt5.QtWidgets import QAbstractItemView, QTableView, QWidget

LOOKED_AT = 40
MOST_LETTERS = 26


@dataclass(frozen=True)
class Heading:
    """Head of a column, which may have several lines, and what it means."""

    text: str
    about: str = ""


class _Texts(QAbstractTableModel):
    def __init__(self, parent: QTableView) -> None:
        super().__init__(parent)
        self.headings: Sequence[Heading] = ()
        self.side: Sequence[str] = ()
        self.rows: Sequence[Sequence[str]] = ()
        self.numbers = False

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.headings)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        across = orientation == Qt.Orientation.Horizontal
        if role == Qt.ItemDataRole.DisplayRole:
            return self.headings[section].text if across else self.side[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.headings[section].about if across else self.side[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return self.rows[index.row()][index.column()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            place = Qt.AlignmentFlag.AlignRight if self.numbers else Qt.AlignmentFlag.AlignLeft
            return int(place | Qt.AlignmentFlag.AlignVCenter)
        return None


class TextTable(QTableView):
    """The table.

    Args:
        name: for people who hear the screen.
    """

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._texts = _Texts(self)
        self.setModel(self._texts)
        self.setAccessibleName(name)
        self.setAlternatingRowColors(True)
        self.setWordWrap(False)
        # one column that is wider than the table could not be scrolled otherwise
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        side = self.verticalHeader()
        assert side is not None
        side.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 5)

    def put(
        self, headings: Sequence[Heading], side: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False
    ) -> None:
        """Show these rows; ``side`` names each of them. Numbers stand on the right of their columns."""
        texts, bars = self._texts, (self.verticalScrollBar(), self.horizontalScrollBar())
        places = [0 if bar is None else bar.value() for bar in bars]
        texts.beginResetModel()
        texts.headings, texts.side, texts.rows, texts.numbers = headings, side, rows, numbers
        texts.endResetModel()
        letter = self.fontMetrics().averageCharWidth() + 1
        for column, heading in enumerate(headings):
            longest = max((len(row[column]) for row in rows[:LOOKED_AT]), default=0)
            longest = max(longest, *(len(line) for line in heading.text.split("\n")))
            self.setColumnWidth(column, letter * min(longest, MOST_LETTERS) + 14)
        for bar, place in zip(bars, places, strict=True):
            if bar is not None:
                bar.setValue(place)

    def text(self, row: int, column: int) -> str:
        """What stands there."""
        return self._texts.rows[row][column]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self._texts.rows)
