"""The queue on the screen: its items and where they stand, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PyQt5.QtCore import Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QColor, QShowEvent
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from bench.gui.controller import Controller
from bench.gui.queue_work import QueueReader, Shown, WindowQueue, about, cell_count, planned
from bench.gui.style import ALARM, OK, WARN, colour, note, shade
from bench.queue import Item, Queue, Verb
from bench.states import RunState
from models.exceptions import UserMistake

LOOK_MS = 1000
FOLDER = "queue"
HEADINGS = ("no.", "run", "state")
SHADES = {
    RunState.COMPLETED: OK,
    RunState.FAILED: ALARM,
    RunState.INTERRUPTED: ALARM,
    RunState.STOPPED: WARN,
    RunState.PAUSED: WARN,
}


class QueueTable(QWidget):
    """Items of the folder queue beside the runs, which the command line shows and steers too.

    Attributes:
        table: one row for each item.
        shown: what the folder held when it was looked at last; None before.
        start, pause, skip, stop, remove, retry: the buttons.
    """

    _item_changed = pyqtSignal()

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._reader = QueueReader()
        self._ours: WindowQueue | None = None
        self.shown: Shown | None = None
        self._trouble = ""
        self._make()
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self.look)
        self._look.start()
        # Items begin and end in the bench's thread; a signal brings that into the window's.
        self._item_changed.connect(self.look)
        controller.busy_changed.connect(self._refresh)
        controller.bench_changed.connect(self._refresh)
        controller.state_changed.connect(self._on_state)
        controller.run_over.connect(self._on_over)
        self._refresh()

    @property
    def folder(self) -> Path:
        """Where the queue is."""
        return self._controller.folder.absolute() / FOLDER

    @property
    def queue(self) -> Queue:
        """The queue, which may be another one after the folder of the runs was changed."""
        return Queue(self.folder)

    def look(self) -> None:
        """Read what stands in the queue."""
        if self.isVisible() or self._ours is not None:
            self.look_now()

    def look_now(self) -> None:
        """Read what stands in the queue, also where nobody sees it."""
        queue, ours = self.queue, self._ours is not None

        def work() -> Shown | str:
            # Said beside the items and not in the log, which would get a line every second.
            try:
                return self._reader.read(queue, ours)
            except UserMistake as error:
                return str(error)

        self._controller.read("queue", work, self._take)

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Catch up."""
        super().showEvent(a0)
        self.look_now()

    def _make(self) -> None:
        self.table = QTableWidget(0, len(HEADINGS))
        self.table.setHorizontalHeaderLabels(list(HEADINGS))
        self.table.setAccessibleName("items of the queue")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setMinimumHeight(150)
        header, side = self.table.horizontalHeader(), self.table.verticalHeader()
        assert header is not None
        assert side is not None
        side.setVisible(False)
        side.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
        self.table.itemSelectionChanged.connect(self._refresh)
        self._advice, self._details, self._path = note(), note(), note()
        self.start = self._button("Run the queue", "Runs what waits on the connected bench, one after the other.")
        self.pause = self._button("Pause", "Holds the item before its next exchange, outputs off; nothing else begins.")
        self.skip = self._button("Skip", "Ends the item under way after its exchange, and goes on with the next.")
        self.stop = self._button("Stop", "Ends the item under way and the queue with it; what waits keeps waiting.")
        self.remove = self._button("Remove", "Takes the selected item out of the queue; its run file stays.")
        self.retry = self._button("Retry", "Puts the selected item at the end again; it goes on where it ended.")
        self.start.clicked.connect(self._start)
        self.pause.clicked.connect(lambda: self._ask(Verb.GO_ON if self._held else Verb.PAUSE))
        self.skip.clicked.connect(lambda: self._ask(Verb.SKIP))
        self.stop.clicked.connect(lambda: self._ask(Verb.STOP))
        self.remove.clicked.connect(lambda: self._change("removed", self.queue.remove))
        self.retry.clicked.connect(lambda: self._change("added again", self.queue.retry))
        grid = QGridLayout()
        grid.setSpacing(3)
        grid.addWidget(self.start, 0, 0, 1, 3)
        for column, button in enumerate((self.pause, self.skip, self.stop)):
            grid.addWidget(button, 1, column)
        below = QGridLayout()
        below.setSpacing(3)
        below.addWidget(self.remove, 0, 0)
        below.addWidget(self.retry, 0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(grid)
        layout.addWidget(self._advice)
        layout.addWidget(self.table, 1)
        layout.addLayout(below)
        layout.addWidget(self._details)
        layout.addWidget(self._path)

    def _button(self, text: str, help_text: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(help_text)
        return button

    @property
    def selected(self) -> Item | None:
        """The item whose row is selected."""
        rows = {index.row() for index in self.table.selectedIndexes()}
        items = () if self.shown is None else self.shown.items
        return items[min(rows)] if rows and min(rows) < len(items) else None

    @property
    def _held(self) -> bool:
        runner = None if self._ours is None else self._ours.runner
        if runner is not None:
            return runner.held
        return self.shown is not None and any(item.state is RunState.PAUSED for item in self.shown.items)

    def _start(self) -> None:
        bench = self._controller.bench
        if bench is None or self._controller.busy is not None:
            return
        ours = WindowQueue(self.queue, bench, self._item_changed.emit)
        waiting = 0 if self.shown is None else self.shown.waiting
        self._controller.on_bench("Queue", ours.work, where=f"{waiting} runs")
        if self._controller.busy is not None:
            self._ours = ours
        self._refresh()

    def _on_over(self) -> None:
        self._ours = None
        self.look_now()
        self._refresh()

    def _on_state(self) -> None:
        if self._ours is not None:
            self.look()
        self._refresh()

    def _ask(self, verb: Verb) -> None:
        runner = None if self._ours is None else self._ours.runner
        if runner is not None:
            runner.obey(verb)
            self._refresh()
        else:
            queue = self.queue
            self._controller.write(f"Queue: {verb}", lambda: queue.ask(verb), lambda _: self.look_now())

    def _change(self, done: str, change: Callable[[int], Item]) -> None:
        item = self.selected
        if item is not None:
            number = item.number

            def then(changed: Item) -> None:
                self._controller.tell("Queue", f"item {number} {done}")
                self.look_now()

            self._controller.write(f"Queue item {number}", lambda: change(number), then)

    def _take(self, found: Shown | str) -> None:
        self._trouble = found if isinstance(found, str) else ""
        if isinstance(found, str):
            self._refresh()
        else:
            self._show(found)

    def _show(self, shown: Shown) -> None:
        selected = self.selected
        self.shown = shown
        self.table.blockSignals(True)
        self.table.setRowCount(len(shown.items))
        for row, item in enumerate(shown.items):
            when = planned(item) if not item.state.ended else ""
            ended = item.reason if item.reason else shown.results.get(item.number, "")
            texts = (
                str(item.number),
                f"{item.procedure}\n{cell_count(item)} cells",
                "\n".join(text for text in (str(item.state), when) if text),
            )
            for column, text in enumerate(texts):
                cell = self.table.item(row, column)
                if cell is None:
                    cell = QTableWidgetItem()
                    self.table.setItem(row, column, cell)
                if cell.text() != text:
                    cell.setText(text)
                cell.setToolTip(f"{about(item)}\n{ended}".strip())
            hue = SHADES.get(item.state)
            state = self.table.item(row, 2)
            assert state is not None
            state.setData(Qt.ItemDataRole.ForegroundRole, None if hue is None else QColor(shade(hue, self)))
            if selected is not None and item.number == selected.number:
                self.table.selectRow(row)
        self.table.blockSignals(False)
        self._refresh()

    def _refresh(self) -> None:
        """Say what can be done, and what is known of the selected item."""
        shown, bench, busy = self.shown, self._controller.bench, self._controller.busy
        waiting = 0 if shown is None else shown.waiting
        elsewhere = shown is not None and shown.elsewhere
        running = self._ours is not None or elsewhere
        self.start.setText(f"Run the queue: {waiting} waiting" if waiting else "Run the queue")
        self.start.setEnabled(bench is not None and busy is None and waiting > 0 and not elsewhere)
        self.pause.setText("Go on" if running and self._held else "Pause")
        for button in (self.pause, self.skip, self.stop):
            button.setEnabled(running)
        item = self.selected
        under_way = item is not None and item.state is not RunState.QUEUED and not item.state.ended
        self.remove.setEnabled(item is not None and not under_way)
        self.retry.setEnabled(item is not None and item.state.ended and item.state is not RunState.COMPLETED)
        self._advice.setText(self._advise(waiting, elsewhere))
        colour(self._advice, ALARM if self._trouble else None)
        self._advice.setVisible(bool(self._advice.text()))
        self._details.setText("" if item is None or shown is None else self._tell(item, shown))
        self._details.setVisible(item is not None)
        self._path.setText(f"The same from a terminal: rram-bench queue list --queue {self.folder}")

    def _advise(self, waiting: int, elsewhere: bool) -> str:
        if self._trouble:
            return self._trouble
        if elsewhere:
            return "Another process runs this queue; what is asked here, it does."
        if self._ours is not None:
            return "Paused: outputs off, nothing begins until Go on." if self._held else ""
        if self.shown is not None and not self.shown.items:
            return "Nothing is in the queue. “Add to queue” beneath an experiment puts it here."
        if waiting and self._controller.bench is None:
            return "Connect to a bench on the left to run what waits."
        return ""

    def _tell(self, item: Item, shown: Shown) -> str:
        lines = [f"Item {item.number}, {item.procedure}: {item.state}", about(item)]
        lines += [text for text in (item.reason, shown.results.get(item.number, "")) if text]
        if item.resume:
            lines.append(f"goes on with {Path(item.resume).name}")
        if item.run_file:
            lines.append(Path(item.run_file).name)
        return "\n".join(lines)
