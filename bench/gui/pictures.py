"""Saving what a part of the window shows as a picture."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtGui import QPixmap
from PyQt5.QtWidgets import QWidget

from bench.gui.controller import Controller


def export_picture(widget: QWidget, path: Path, what: str, controller: Controller) -> None:
    """Save a widget as it is shown, at twice the resolution of the screen, and say so in the log.

    Args:
        what: what is seen, for the log.
    """
    picture = QPixmap(2 * widget.size())
    picture.setDevicePixelRatio(2.0)
    widget.render(picture)
    if picture.save(str(path)):
        controller.tell("Export", f"picture of {what} in {path}")
    else:
        controller.complain("Export", f"{path} cannot be written; choose another folder, or end it in .png")
