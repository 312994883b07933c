"""The figures of reports on the screen: made and drawn off the window's thread, shown as a picture that fits.

A matplotlib figure takes tenths of a second to draw, during which a canvas would hold the window up. The picture is
drawn anew when the space for it changes; a window of its own has matplotlib's canvas, to zoom and pan in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PyQt5.QtCore import QRect, Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QImage, QPixmap, QResizeEvent, QShowEvent
from PyQt5.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from bench.gui.controller import Controller
from bench.gui.style import note
from data.atomic import replacing
from models.exceptions import RramBenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.figures.records import TitledFigure

LEAST_DPI, MOST_DPI = 66, 120
"""A picture gets no smaller than this, so that its text can be read: it is scrolled instead."""

NARROWEST = 0.65
"""Share of its width on paper that a figure may shrink to before it is scrolled."""

SETTLE_MS = 200
SAVED_DPI = 200
MAKING = "drawing …"
PICTURES = "PNG picture (*.png);;PDF document (*.pdf);;SVG drawing (*.svg)"

Make = Callable[[], Sequence["TitledFigure"]]


def picture(figure: Figure, width: int, ratio: float) -> QImage:
    """Draw a figure, ``width`` pixels of the screen wide where its text can then be read. In any thread.

    Args:
        ratio: device pixels per pixel of the screen.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    _arrange(figure, width)
    dpi = min(max(width / figure.get_figwidth(), LEAST_DPI), MOST_DPI)
    figure.set_dpi(dpi * ratio)
    canvas.draw()
    columns, rows = canvas.get_width_height()
    pixels = canvas.buffer_rgba().tobytes()
    image = QImage(pixels, columns, rows, 4 * columns, QImage.Format.Format_RGBA8888).copy()
    image.setDevicePixelRatio(ratio)
    return image


def _arrange(figure: Any, width: int) -> None:
    """Fit a figure into a narrow space: panels side by side get below each other, and narrower where nothing is cut."""
    if not hasattr(figure, "inches_on_paper"):
        figure.inches_on_paper = tuple(figure.get_size_inches())
    across, down = figure.inches_on_paper
    specs = [axis.get_subplotspec() for axis in figure.axes]
    grids = {None if spec is None else spec.get_gridspec() for spec in specs}
    grid = grids.pop() if len(grids) == 1 else None
    count = 1 if grid is None or min(grid.nrows, grid.ncols) != 1 else grid.nrows * grid.ncols
    stacked = count > 1 and width < LEAST_DPI * across
    if grid is not None and count > 1:
        anew = figure.add_gridspec(count, 1) if stacked else figure.add_gridspec(1, count)
        for axis, spec in zip(figure.axes, specs, strict=True):
            axis.set_subplotspec(anew[spec.num1])
    if stacked:
        across, down = across / count, down * count
    # A legend beside the panels needs its width, and so do maps, whose cells are square.
    least = across if figure.legends or len(figure.axes) > count else NARROWEST * across
    figure.set_size_inches(min(across, max(width / LEAST_DPI, least)), down)


class FigureView(QWidget):
    """Several figures, one of which is shown.

    Args:
        name: tells this view's reading of files from that of others.
    """

    def __init__(self, controller: Controller, name: str, empty: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._name, self._empty = controller, name, empty
        self._make: Make | None = None
        self._figures: Sequence[TitledFigure] | None = None
        self._asked = False
        self._drawn: tuple[object, int] | None = None
        self.windows: list[QWidget] = []
        self.selector = QComboBox()
        self.selector.setAccessibleName(f"figure of the {name}")
        self.selector.setToolTip("Which figure is shown.")
        self.selector.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.selector.setMinimumWidth(60)
        self.selector.currentIndexChanged.connect(self._on_selected)
        self.open_button, self.save_button = QPushButton("Enlarge"), QPushButton("Save…")
        self.open_button.setToolTip("Opens this figure in a window of its own, to zoom and pan in.")
        self.save_button.setToolTip("Saves this figure as PNG, PDF or SVG.")
        self.open_button.clicked.connect(self._on_open)
        self.save_button.clicked.connect(self._on_save)
        row = QHBoxLayout()
        row.addWidget(self.selector, 1)
        row.addWidget(self.open_button)
        row.addWidget(self.save_button)
        self.caption = note(empty)
        self.picture = QLabel()
        self.picture.setAlignment(Qt.Alignment() | Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)
        self._area = QScrollArea()
        self._area.setWidget(self.picture)
        self._area.setWidgetResizable(True)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.setInterval(SETTLE_MS)
        self._settling.timeout.connect(self._draw)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.caption)
        layout.addWidget(self._area, 1)
        self.clear(empty)

    def clear(self, text: str) -> None:
        """Show no figure, and say why."""
        self._make = self._figures = self._drawn = None
        self._fill(())
        self.caption.setText(text)

    def put(self, make: Make) -> None:
        """Show what ``make`` makes, off the window's thread, as soon as somebody looks."""
        self._make, self._figures, self._asked, self._drawn = make, None, False, None
        if self.isVisible():
            self._ask()

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Now somebody looks."""
        super().showEvent(a0)
        self._ask()
        self._settling.start()

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """The picture is drawn anew once the size has settled."""
        super().resizeEvent(a0)
        self._settling.start()

    def _ask(self) -> None:
        if self._make is not None and not self._asked:
            self._asked = True
            shown = self.picture.pixmap()
            if shown is None or shown.isNull():
                self.caption.setText(MAKING)
            make = self._make

            def work() -> tuple[Sequence[TitledFigure], str]:
                try:
                    return make(), ""
                except RramBenchError as error:
                    return (), str(error)

            self._controller.read(f"Figures of the {self._name}", work, self._take)

    def _take(self, made: tuple[Sequence[TitledFigure], str]) -> None:
        self._figures, trouble = made
        self._drawn = None
        self._fill(self._figures)
        if not self._figures:
            self.caption.setText(trouble if trouble else self._empty)

    def _fill(self, figures: Sequence[TitledFigure]) -> None:
        shown = self.selector.currentText()
        self.selector.blockSignals(True)
        self.selector.clear()
        self.selector.addItems([each.title for each in figures])
        self.selector.setCurrentIndex(max(0, self.selector.findText(shown)) if figures else -1)
        self.selector.blockSignals(False)
        for widget in (self.selector, self.open_button, self.save_button):
            widget.setEnabled(bool(figures))
        self._area.setVisible(bool(figures))
        if not figures:
            self.picture.clear()
        # Otherwise the picture before stays until the next is drawn: one that follows a run does not flicker.
        self._draw()

    def _on_selected(self) -> None:
        self._draw()

    @property
    def shown(self) -> TitledFigure | None:
        """The figure that is shown."""
        index = self.selector.currentIndex()
        return None if not self._figures or index < 0 else self._figures[index]

    def _draw(self) -> None:
        figure = self.shown
        if figure is None or not self.isVisible():
            return
        bar = self._area.verticalScrollBar()
        assert bar is not None
        width, ratio = self._area.width() - bar.sizeHint().width() - 4, self.devicePixelRatioF()
        if self._drawn == (figure, width):
            return
        self._drawn = figure, width
        self.caption.setText(figure.caption)

        def show(image: QImage) -> None:
            if figure is self.shown:  # and not of a run that was looked at before
                self.picture.setPixmap(QPixmap.fromImage(image))

        self._controller.read(f"Picture of the {self._name}", lambda: picture(figure.figure, width, ratio), show)

    def _on_open(self) -> None:
        index, make = self.selector.currentIndex(), self._make
        if make is not None:
            # Made afresh: one figure cannot be drawn by two canvases in two threads.
            self._controller.read(f"Figure of the {self._name}", lambda: make()[index], self._enlarge)

    def _enlarge(self, figure: TitledFigure) -> None:
        from matplotlib.backends import backend_qtagg

        backend: Any = backend_qtagg

        window = _Enlarged(self)
        window.setWindowTitle(figure.title)
        canvas = backend.FigureCanvasQTAgg(figure.figure)
        layout = QVBoxLayout(window)
        layout.addWidget(backend.NavigationToolbar2QT(canvas, window))
        layout.addWidget(canvas, 1)
        screen = self.screen()
        space = QRect(0, 0, 1280, 720) if screen is None else screen.availableGeometry()
        window.resize(min(1200, space.width() * 9 // 10), min(640, space.height() * 8 // 10))
        self.windows = [each for each in self.windows if each.isVisible()] + [window]
        window.show()

    def _on_save(self) -> None:
        figure = self.shown
        chosen, form = QFileDialog.getSaveFileName(self, "Save the picture", f"{self._name}.png", PICTURES)
        if figure is None or not chosen:
            return
        path = Path(chosen)
        if not path.suffix:
            path = path.with_suffix(f".{form[:3].lower()}")
        self.save(path)

    def save(self, path: Path) -> None:
        """Save the figure that is shown; its name says in which format."""
        make, index = self._make, self.selector.currentIndex()
        assert make is not None

        def work() -> Path:
            # Made afresh: the one on the screen has been arranged for its space there.
            figure = make()[index]
            with replacing(path, "picture") as partial:
                figure.figure.savefig(partial, format=path.suffix.lower().removeprefix("."), dpi=SAVED_DPI)
            return path

        self._controller.write(
            "Save picture", work, lambda written: self._controller.tell("Save picture", str(written))
        )


class _Enlarged(QWidget):
    """A window of its own, gone when it is closed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)

    def closeEvent(self, a0: QCloseEvent | None) -> None:
        super().closeEvent(a0)
        self.deleteLater()
