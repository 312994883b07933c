"""The bench: connect and disconnect, who answers, what stands on the rails, and the way to switch it all off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PyQt5.QtWidgets import (
    QComboBox,
    QFileDialog,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from bench.gui.controller import Controller
from bench.gui.jobs import Connected, Purpose, RailsSeen
from bench.gui.style import ALARM, DANGER_BUTTON, OK, WARN, Scrolling, colour, note
from bench.gui.units import si
from bench.safe import SafeReport
from bench.session import SIMULATED
from bench.states import RunState
from drivers.operating_points import RailVoltages
from drivers.rails import RAILS

NAMES = ("VDD", "VDDC", "VDDR")
USES = ("core", "array columns", "word lines")


class BenchPanel(QWidget):
    """Left side of the window."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        facts = QWidget()
        layout = QVBoxLayout(facts)
        layout.setContentsMargins(6, 4, 6, 4)
        for part in (self._make_connection(), self._make_instruments(), self._make_rails(), self._make_records()):
            layout.addWidget(part)
        layout.addStretch(1)
        # The way to switch everything off never scrolls out of sight.
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolling(facts), 1)
        outer.addWidget(self._make_safety())
        controller.busy_changed.connect(self._refresh)
        controller.bench_changed.connect(self._on_bench_changed)
        # A run that completed has had every instrument's word that it is off.
        controller.completed.connect(lambda _: self._show_states(dict.fromkeys(self._states, ("off", OK))))
        controller.rails_set.connect(self._on_rails_set)
        controller.rails_seen.connect(self._on_rails_seen)
        controller.rails_lost.connect(self._on_rails_lost)
        controller.state_changed.connect(self._on_state)
        controller.safe_reported.connect(self._on_safe_reported)
        self._list_instruments(None)
        self._refresh()

    def choose(self, source: str, seed: int) -> None:
        """Fill in which bench to connect to."""
        simulated = source == SIMULATED
        self.source.setCurrentIndex(0 if simulated else 1)
        self.file.setText("" if simulated else source)
        self.seed.setValue(seed)

    def connect_chosen(self) -> None:
        """Connect to what is filled in."""
        simulated = self.source.currentIndex() == 0
        named = self.file.text().strip()
        if not simulated and not named:
            self._controller.complain("Connect", "name a bench file first, or choose the simulated bench")
            return
        source = SIMULATED if simulated else str(Path(named).expanduser())
        self._controller.connect_bench(source, self.seed.value())

    def _make_connection(self) -> QWidget:
        box = QGroupBox("Bench")
        self.source = QComboBox()
        self.source.addItems(["Simulated bench", "Bench file"])
        self.file = QLineEdit()
        self.file.setPlaceholderText("path of a bench file (.toml)")
        self._browse = QPushButton("Browse …")
        self._browse.clicked.connect(self._on_browse)
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setToolTip("Another seed is another simulated chip.")
        self._seed_label = QLabel("seed")
        self.connect_button, self.disconnect_button = QPushButton("Connect"), QPushButton("Disconnect")
        self.connect_button.clicked.connect(self.connect_chosen)
        self.disconnect_button.clicked.connect(self._controller.disconnect_bench)
        self._status = note()
        grid = QGridLayout(box)
        grid.addWidget(self.source, 0, 0, 1, 2)
        grid.addWidget(self._seed_label, 1, 0)
        grid.addWidget(self.seed, 1, 1)
        grid.addWidget(self.file, 2, 0)
        grid.addWidget(self._browse, 2, 1)
        self.reconnect_button = QPushButton("Reconnect")
        self.reconnect_button.setToolTip(
            "After an unplug: opens every link again, and brings every output to 0 V and off."
        )
        self.reconnect_button.clicked.connect(self._controller.reconnect_bench)
        grid.addWidget(self.connect_button, 3, 0)
        grid.addWidget(self.reconnect_button, 3, 0)
        grid.addWidget(self.disconnect_button, 3, 1)
        grid.addWidget(self._status, 4, 0, 1, 2)
        self.source.currentIndexChanged.connect(self._refresh)
        return box

    def _make_instruments(self) -> QWidget:
        box = QGroupBox("Instruments")
        layout = QVBoxLayout(box)
        self._instruments = QGridLayout()
        self._instruments.setColumnStretch(0, 1)
        self._hint, self._link, self._temperature = note(), note(), note()
        layout.addWidget(self._hint)
        layout.addLayout(self._instruments)
        layout.addWidget(self._temperature)
        layout.addWidget(self._link)
        self._states: dict[str, QLabel] = {}
        return box

    def states(self) -> dict[str, str]:
        """What is known of the outputs of each instrument, by role."""
        return {role: label.text() for role, label in self._states.items()}

    def _list_instruments(self, bench: Connected | None) -> None:
        while (item := self._instruments.takeAt(0)) is not None:
            widget = item.widget()
            assert widget is not None
            widget.deleteLater()
        self._states.clear()
        self._hint.setVisible(bench is None)
        self._hint.setText("They are listed here once a bench is connected.")
        for label in (self._link, self._temperature):
            label.setVisible(bench is not None)
            label.setText("")
        if bench is None:
            return
        for row, (role, who) in enumerate(bench.identities.items()):
            name = note(f"{role.replace('_', ' ')}: {who.model}")
            name.setToolTip(str(who))
            self._states[role] = QLabel()
            self._instruments.addWidget(name, row, 0)
            self._instruments.addWidget(self._states[role], row, 1)
        self._show_states(dict.fromkeys(self._states, ("off", OK)))

    def _show_states(self, states: Mapping[str, tuple[str, str | None]]) -> None:
        for role, (text, shade) in states.items():
            if role in self._states:
                self._states[role].setText(text)
                colour(self._states[role], shade)

    def _make_rails(self) -> QWidget:
        box = QGroupBox("Rails")
        grid = QGridLayout(box)
        for column, title in enumerate(("", "set", "measured", "current")):
            grid.addWidget(QLabel(title), 0, column)
            grid.setColumnStretch(column, 1)
        self._cells: dict[str, tuple[QLabel, QLabel, QLabel]] = {}
        for row, (rail, name, use) in enumerate(zip(RAILS, NAMES, USES, strict=True), start=1):
            label = QLabel(name)
            label.setToolTip(use)
            grid.addWidget(label, row, 0)
            self._cells[rail] = QLabel(), QLabel(), QLabel()
            for column, cell in enumerate(self._cells[rail], start=1):
                grid.addWidget(cell, row, column)
        self._rails_state = note()
        grid.addWidget(self._rails_state, len(RAILS) + 1, 0, 1, 4)
        return box

    def _make_records(self) -> QWidget:
        box = QGroupBox("Records")
        self._folder, change = note(), QPushButton("Change …")
        change.setToolTip("Choose where the next runs are recorded.")
        change.clicked.connect(self._on_change_folder)
        layout = QHBoxLayout(box)
        layout.addWidget(self._folder, 1)
        layout.addWidget(change)
        self._show_folder()
        return box

    def _make_safety(self) -> QWidget:
        holder = QWidget()
        layout = QVBoxLayout(holder)
        layout.setContentsMargins(6, 0, 6, 6)
        self.off_button = QPushButton("Outputs off (F12)")
        self.off_button.setStyleSheet(DANGER_BUTTON)
        self.off_button.setToolTip("Stops whatever runs, and brings every output to 0 V and off. Always allowed.")
        font = self.off_button.font()
        font.setPointSizeF(1.3 * font.pointSizeF())
        self.off_button.setFont(font)
        self.off_button.clicked.connect(self._controller.outputs_off)
        self._safety = note()
        layout.addWidget(self.off_button)
        layout.addWidget(self._safety)
        return holder

    def _on_browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Bench file", "", "Bench files (*.toml);;All files (*)")
        if path:
            self.file.setText(path)

    def _show_folder(self) -> None:
        self._folder.setText(f"a file for each run, in {self._controller.folder}")
        self._folder.setToolTip(str(self._controller.folder.absolute()))

    def _on_change_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for runs", str(self._controller.folder))
        if chosen:
            self._controller.folder = Path(chosen)
            self._show_folder()

    def _on_bench_changed(self) -> None:
        self._list_instruments(self._controller.bench)
        self._refresh()

    def _refresh(self) -> None:
        bench, busy = self._controller.bench, self._controller.busy
        connecting = busy is not None and busy.purpose is Purpose.CONNECT
        simulated = self.source.currentIndex() == 0
        # What can be chosen only while nothing is connected makes room for what is known of the bench.
        self.source.setVisible(bench is None)
        for widget in (self._seed_label, self.seed):
            widget.setVisible(bench is None and simulated)
        for widget in (self.file, self._browse):
            widget.setVisible(bench is None and not simulated)
        for widget in (self.source, self.seed, self.file, self._browse, self.connect_button):
            widget.setEnabled(bench is None and busy is None)
        for button in (self.disconnect_button, self.reconnect_button):
            button.setEnabled(bench is not None and busy is None)
        self.connect_button.setVisible(bench is None)
        self.reconnect_button.setVisible(bench is not None)
        if bench is None:
            self._status.setText("connecting …" if connecting else "Not connected. Press Connect.")
            colour(self._status, WARN if connecting else None)
            self._show_rails(None, None, "Measured here once a bench is connected.", None)
            return
        rows, cols = bench.config.geometry
        self._status.setText(f"Connected: {bench.config.name}\nchip {bench.chip_id}, {rows} × {cols} cells")
        colour(self._status, OK)
        if busy is not None and busy.purpose is Purpose.RUN:
            self._show_states(dict.fromkeys(self._states, ("in use", WARN)))

    def _show_rails(self, applied: RailVoltages | None, seen: RailsSeen | None, state: str, shade: str | None) -> None:
        for rail, (set_cell, measured, current) in self._cells.items():
            reading = None if seen is None else seen.readings[rail]
            off = reading is not None and not reading.on
            set_cell.setText("off" if off else "–" if applied is None else f"{getattr(applied, rail):g} V")
            measured.setText("–" if reading is None else f"{reading.voltage_v:.3f} V")
            current.setText("–" if reading is None else si(reading.current_a, "A"))
        self._rails_state.setText(state)
        colour(self._rails_state, shade)

    def _on_rails_set(self, rails: RailVoltages) -> None:
        assert self._controller.bench is not None
        tolerance = si(self._controller.bench.config.supply.tolerance_v, "V")
        self._show_rails(rails, None, f"ON: each change was confirmed to ± {tolerance}", WARN)

    def _on_state(self, state: RunState) -> None:
        """A run that is held has confirmed that everything is off; one that goes on sets what it needs."""
        if state is RunState.PAUSED:
            self._show_states(dict.fromkeys(self._states, ("off", OK)))
            self._show_rails(None, None, "paused: all outputs were confirmed to be off", OK)
        elif state is RunState.RUNNING:
            self._show_states(dict.fromkeys(self._states, ("in use", WARN)))

    def _on_rails_seen(self, seen: RailsSeen) -> None:
        on = any(reading.on for reading in seen.readings.values())
        self._show_states({"supply": ("ON", WARN) if on else ("off", OK)})
        self._show_looks(seen)
        if not any(reading.on for reading in seen.readings.values()):
            self._show_rails(None, seen, "known: all outputs off", OK)
        elif seen.applied is not None:
            self._show_rails(seen.applied, seen, "known: ON, as set", WARN)
        else:
            self._show_rails(None, seen, "UNKNOWN: on, but not set by this window; press Outputs off", ALARM)

    def _show_looks(self, seen: RailsSeen) -> None:
        refused = "1 frame" if seen.board.frames_refused == 1 else f"{seen.board.frames_refused} frames"
        tripped = "; its watchdog tripped" if seen.board.watchdog_tripped else ""
        self._link.setText(f"link: the board answers in {si(seen.answer_s, 's', 2)}, {refused} refused{tripped}")
        colour(self._link, WARN if seen.board.frames_refused or seen.board.watchdog_tripped else None)
        found = seen.temperature
        self._temperature.setVisible(found is not None)
        if found is not None:
            chip = found.air_c if found.device_c is None else found.device_c
            where = "air" if found.device_c is None else "chip"
            self._temperature.setText(f"{where}: {chip:.1f} °C, {'settled' if found.settled else 'not regulated'}")

    def _on_rails_lost(self, why: str) -> None:
        self._show_rails(
            None,
            None,
            f"UNKNOWN: {why}. Check the instrument, then press Outputs off; after an unplug Reconnect.",
            ALARM,
        )

    def _on_safe_reported(self, report: SafeReport) -> None:
        steps = "\n".join(str(step) for step in report.steps)
        self._show_states({step.role: ("off", OK) if step.confirmed else ("UNKNOWN", ALARM) for step in report.steps})
        self._safety.setText(steps if report.steps else "No bench is connected: there is nothing to switch off.")
        colour(self._safety, None if report.confirmed else ALARM)
        if not report.confirmed:
            self._on_rails_lost("; ".join(str(step) for step in report.steps if not step.confirmed))
