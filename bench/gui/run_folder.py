"""The run files that the panels look at: one list for all of them, refreshed off the window's thread."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtCore import QObject, QTimer, pyqtSignal

from bench.gui.controller import Controller
from bench.run_index import ListedRun, RunIndex
from models.exceptions import UserMistake

LOOK_MS = 3000
KEY = "Look for runs"


class RunFolder(QObject):
    """The runs of the folder that runs are recorded in, or of another one that was chosen.

    There is one for each controller: :meth:`of` gives it to whoever asks.

    Signals:
        changed(): the files, or what they say of their runs, are others than before.
        chosen_changed(): other runs are chosen to be looked at.

    Attributes:
        listed: the files, the newest run first; None until the folder was looked at.
        trouble: why the folder cannot be looked at; empty where it can.
        chosen: files that are looked at in the workspace Runs.
    """

    changed = pyqtSignal()
    chosen_changed = pyqtSignal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self._index = RunIndex()
        self._elsewhere: Path | None = None
        self._looked_at: Path | None = None
        self.listed: tuple[ListedRun, ...] | None = None
        self.trouble = ""
        self.chosen: tuple[Path, ...] = ()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(LOOK_MS)
        controller.run_over.connect(self.look)
        QTimer.singleShot(0, self.look)

    @staticmethod
    def of(controller: Controller) -> RunFolder:
        """The one of this controller."""
        known = controller.findChild(RunFolder)
        return known if isinstance(known, RunFolder) else RunFolder(controller)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._controller.folder if self._elsewhere is None else self._elsewhere

    def go_to(self, folder: Path | None) -> None:
        """Look at another folder; None for the one that runs are recorded in."""
        self._elsewhere = folder
        self.look()

    def look(self, *_: object) -> None:
        """Look at the folder again, soon."""
        folder = self.path

        def work() -> tuple[Path, tuple[ListedRun, ...], str]:
            # Said beside the list and not in the log, which would get a line every few seconds.
            try:
                return folder, self._index.look(folder), ""
            except UserMistake as error:
                return folder, (), str(error)

        self._controller.read(KEY, work, self._take)

    def find(self, path: Path) -> ListedRun | None:
        """What is known of a file."""
        known = () if self.listed is None else self.listed
        return next((each for each in known if each.path == path), None)

    def choose(self, paths: tuple[Path, ...]) -> None:
        """Look at these runs."""
        if paths != self.chosen:
            self.chosen = paths
            self.chosen_changed.emit()

    def _take(self, found: tuple[Path, tuple[ListedRun, ...], str]) -> None:
        if found != (self._looked_at, self.listed, self.trouble):
            self._looked_at, self.listed, self.trouble = found
            self.changed.emit()
