"""The samples that were inferred, with their answers: small pictures, drawn when they are seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QAbstractListModel, QModelIndex, QPointF, QSize, Qt
from PyQt5.QtGui import QColor, QImage, QPainter, QPalette, QPen, QPixmap, QPolygonF
from PyQt5.QtWidgets import QListView, QWidget

from bench.figures.style import BLUE, VERMILION
from data.datasets import Dataset

PICTURE = 64
"""Pixels of a picture's side on the screen."""

FRAME = 3
MOST_TRACES = 4
"""Of a signal with many channels the first are drawn."""

TRACE_POINTS = 256
SPREAD = 12
"""Pixels between neighbours."""


def sample_picture(sample: NDArray[np.generic], shape: tuple[int, ...], top: float, ink: QColor) -> QImage:
    """A sample of a data set as a picture: an image enlarged, a signal as traces from top to bottom.

    Args:
        sample: ``(features,)``.
        shape: of the data set: (channels, height, width), or (channels, samples).
        top: value of white.
        ink: of traces.
    """
    return _traces(sample.reshape(shape), ink) if len(shape) == 2 else _image(sample.reshape(shape), top)


def _image(sample: NDArray[np.generic], top: float) -> QImage:
    channels, height, width = sample.shape
    levels = np.clip(np.rint(sample.astype(np.float64) * (255.0 / top)), 0, 255).astype(np.uint8)
    # two channels, or many, have no colours of their own: their mean
    colours = levels if channels == 3 else np.repeat(levels.mean(axis=0, keepdims=True).astype(np.uint8), 3, axis=0)
    pixels = np.ascontiguousarray(colours.transpose(1, 2, 0))
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    smooth = Qt.TransformationMode.SmoothTransformation if max(height, width) > PICTURE else None
    mode = Qt.TransformationMode.FastTransformation if smooth is None else smooth
    return image.scaled(PICTURE, PICTURE, Qt.AspectRatioMode.KeepAspectRatio, mode)


def _traces(sample: NDArray[np.generic], ink: QColor) -> QImage:
    shown = sample[:MOST_TRACES].astype(np.float64)
    step = -(-shown.shape[1] // TRACE_POINTS)
    shown = shown[:, ::step]
    image = QImage(2 * PICTURE, PICTURE, QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(ink, 1.0))
    high = PICTURE / len(shown)
    x = np.linspace(1.0, 2 * PICTURE - 2.0, shown.shape[1])
    for number, trace in enumerate(shown):
        low, span = trace.min(), max(float(np.ptp(trace)), 1e-12)
        y = (number + 1) * high - 2 - (trace - low) / span * (high - 4)
        painter.drawPolyline(QPolygonF([QPointF(*point) for point in zip(x, y, strict=True)]))
    painter.end()
    return image


class _Samples(QAbstractListModel):
    def __init__(self, view: QListView) -> None:
        super().__init__(view)
        self._view = view
        self.data_set: Dataset | None = None
        self.order: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.labels: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.answers: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.names: Sequence[str] = ()
        self.top = 255.0
        self._pictures: dict[int, QPixmap] = {}

    def forget(self) -> None:
        self._pictures.clear()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.order)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        sample = int(self.order[index.row()])
        label, answer = int(self.labels[sample]), int(self.answers[sample])
        right = label == answer
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{self.names[label]} ✓" if right else f"{self.names[label]} → {self.names[answer]}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"sample {sample}: is {self.names[label]}, answered {self.names[answer]}" + (
                "" if right else ", wrong"
            )
        if role == Qt.ItemDataRole.DecorationRole:
            return self._picture(sample, right)
        return None

    def _picture(self, sample: int, right: bool) -> QPixmap | None:
        if self.data_set is None:
            return None
        found = self._pictures.get(sample)
        if found is None:
            ink = self._view.palette().color(QPalette.ColorRole.Text)
            image = sample_picture(self.data_set.test_images[sample], self.data_set.shape, self.top, ink)
            found = self._pictures[sample] = _framed(image, QColor(BLUE if right else VERMILION))
        return found


def _framed(image: QImage, hue: QColor) -> QPixmap:
    framed = QPixmap(image.width() + 2 * FRAME, image.height() + 2 * FRAME)
    framed.fill(Qt.GlobalColor.transparent)
    painter = QPainter(framed)
    painter.drawImage(FRAME, FRAME, image)
    pen = QPen(hue, FRAME)
    pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
    painter.setPen(pen)
    painter.drawRect(FRAME // 2, FRAME // 2, framed.width() - FRAME, framed.height() - FRAME)
    painter.end()
    return framed


class SampleList(QListView):
    """Samples side by side; a wrong one has a red frame and says "is → answered", a right one a blue frame."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._samples = _Samples(self)
        self.setModel(self._samples)
        self.setAccessibleName("samples with their answers")
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setLayoutMode(QListView.LayoutMode.Batched)
        self.setSpacing(2)
        self.setWordWrap(True)

    def put(
        self,
        data: Dataset | None,
        order: NDArray[np.intp],
        labels: NDArray[np.int64],
        answers: NDArray[np.int64],
        names: Sequence[str],
    ) -> None:
        """Show the samples ``order``, from the test part of ``data`` where it is at hand."""
        model = self._samples
        model.beginResetModel()
        model.data_set, model.order, model.labels, model.answers, model.names = data, order, labels, answers, names
        # 17 grey levels of one set are as white as 256 of another
        model.top = 255.0 if data is None or data.is_signals else max(1.0, float(data.test_images[:100].max()))
        model.forget()
        model.endResetModel()
        width = PICTURE * (2 if data is not None and data.is_signals else 1) + 2 * FRAME
        self.setIconSize(QSize(width, PICTURE + 2 * FRAME))
        letters = 3 + 2 * max((min(len(name), 10) for name in names), default=1)
        text = (self.fontMetrics().averageCharWidth() + 1) * letters
        high = self.fontMetrics().lineSpacing() + (0 if data is None else PICTURE + 2 * FRAME) + 8
        self.setGridSize(QSize(max(text, 0 if data is None else width) + 8, high))
        self.scrollToTop()

    @property
    def count(self) -> int:
        """How many are shown."""
        return len(self._samples.order)

    def text(self, row: int) -> str:
        """What stands below the picture there."""
        return str(self._samples.data(self._samples.index(row)))
