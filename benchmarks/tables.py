"""Tables that a program writes into a page, between two markers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.exceptions import UserMistake


def replace_between(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put ``lines`` between ``<!-- NAME -->`` and ``<!-- end of NAME -->``, in place of what is there.

    Raises:
        UserMistake: the page does not have both markers, in this order.
    """
    text = page.read_text(encoding="utf-8")
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(opening)
    _, ended, after = rest.partition(closing)
    if not (found and ended):
        raise UserMistake(f"{page}: the markers {opening} and {closing} are not there")
    page.write_text("\n".join([before + opening, "", *lines, "", closing + after]), encoding="utf-8")
