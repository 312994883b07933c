"""A workspace: what the window offers for one kind of work, beside the map that is always there."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt5.QtWidgets import QWidget


@dataclass(frozen=True)
class Workspace:
    """One kind of work.

    Attributes:
        name: on its button; short.
        about: one line, the button's tool tip.
        controls: what is set and pressed; stands on the right of the window.
        view: what is looked at; stands beside the map.
        help: its help page, rich text.
        share: of the width between the bench and the controls that the view takes; the map has the rest.
        alone: the view has all of it: it is not about the array that the map shows.
    """

    name: str
    about: str
    controls: QWidget
    view: QWidget
    help: str
    share: float
    alone: bool = False
