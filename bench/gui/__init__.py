"""The window (PyQt5, pyqtgraph). It calls what the command line calls, and owns no logic of the bench."""

from bench.gui.application import show

__all__ = ["show"]
