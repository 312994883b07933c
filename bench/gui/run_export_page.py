"""Taking a run to other programs: what the export command offers."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QPushButton, QVBoxLayout, QWidget

from bench.gui.controller import Controller
from bench.gui.style import note
from data.run_export import ExportFormat, export
from data.runs import Run, open_run

ALL = "all tables"
SUFFIXES = {ExportFormat.CSV: ".csv", ExportFormat.NETCDF: ".nc", ExportFormat.PARQUET: ".parquet"}
ABOUT = {
    ExportFormat.CSV: "CSV (spreadsheets)",
    ExportFormat.NETCDF: "netCDF-4 (xarray)",
    ExportFormat.PARQUET: "Parquet (pandas)",
}


class ExportPage(QWidget):
    """Format, table and options, and a button."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._run: Run | None = None
        self.form, self.table = QComboBox(), QComboBox()
        for kind in ExportFormat:
            self.form.addItem(ABOUT[kind], kind)
        self.whole, self.comments, self.force = (
            QCheckBox("with its earlier parts"),
            QCheckBox("name the run within (CSV)"),
            QCheckBox("replace old files"),
        )
        self.whole.setToolTip("A resumed run together with the earlier runs that it goes on with, in one export.")
        self.force.setToolTip("Writes over files that exist; otherwise they are left alone and the export is refused.")
        self.comments.setToolTip("CSV files begin with lines '# name: value'.")
        self.form.currentIndexChanged.connect(self._refresh)
        self.table.currentIndexChanged.connect(self._refresh)
        self.button = QPushButton()
        self.button.clicked.connect(self._on_export)
        self.told = note()
        fields = QFormLayout()
        fields.addRow("F&ormat", self.form)
        fields.addRow("&Table", self.table)
        for box in (self.whole, self.comments, self.force):
            fields.addRow(box)
        layout = QVBoxLayout(self)
        layout.addLayout(fields)
        layout.addWidget(self.button)
        layout.addWidget(self.told)
        layout.addStretch(1)
        self.put(None)

    def put(self, run: Run | None) -> None:
        """Offer this run."""
        same = run is not None and self._run is not None and run.path == self._run.path
        self._run = run
        if not same:
            name = self.table.currentText()
            self.table.clear()
            self.table.addItems([ALL, *(() if run is None else run.tables)])
            self.table.setCurrentIndex(max(0, self.table.findText(name)))
            self.told.setText("")
        self._refresh()

    @property
    def _kind(self) -> ExportFormat:
        return ExportFormat(self.form.currentData())

    @property
    def _into_folder(self) -> bool:
        return self._kind is not ExportFormat.NETCDF and self.table.currentText() == ALL

    def _refresh(self) -> None:
        self.button.setEnabled(self._run is not None)
        self.comments.setEnabled(self._kind is ExportFormat.CSV)
        self.button.setText("Export to a folder…" if self._into_folder else "Export to a file…")
        what = "One file for each table is written into it." if self._into_folder else "One file is written."
        self.button.setToolTip(what)

    def _on_export(self) -> None:
        if self._run is None:
            return
        suggestion = self._run.path.with_suffix(SUFFIXES[self._kind])
        if self._into_folder:
            chosen = QFileDialog.getExistingDirectory(self, "Export to a folder", str(self._run.path.parent))
        else:
            # Whether a file may be replaced is said by the box here, as on the command line.
            keep = QFileDialog.Option.DontConfirmOverwrite
            chosen, _ = QFileDialog.getSaveFileName(self, "Export to a file", str(suggestion), options=keep)
        if chosen:
            self.export(Path(chosen))

    def export(self, out: Path) -> None:
        """Write the export to ``out``; it tells where."""
        assert self._run is not None
        path, kind = self._run.path, self._kind
        table = None if self.table.currentText() == ALL else self.table.currentText()
        whole, force = self.whole.isChecked(), self.force.isChecked()
        commented = self.comments.isChecked() and kind is ExportFormat.CSV
        self.told.setText("exporting …")

        def work() -> list[Path]:
            return export(open_run(path), kind, out, table, whole=whole, force=force, commented=commented)

        self._controller.study("Export run", lambda *_: work(), self._on_written)

    def _on_written(self, written: list[Path]) -> None:
        names = "\n".join(str(path) for path in written)
        self.told.setText(f"Written:\n{names}")
