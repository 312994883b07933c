"""How long a job may still take, as the window says it."""

from __future__ import annotations

import pytest

from bench.gui.time_left import Left, Watch
from bench.procedure import Progress


def test_the_pace_so_far_goes_on() -> None:
    watch = Watch(100.0)
    assert watch.left(Progress(0, 10, ""), 101.0) is None
    assert watch.left(Progress(2, 10, ""), 104.0) == Left(16.0, of_stage=False)
    assert watch.left(Progress(10, 10, ""), 120.0) is None


@pytest.mark.parametrize("second", [10, 500])
def test_each_stage_has_a_pace_of_its_own(second: int) -> None:
    watch = Watch(0.0)
    watch.left(Progress(10, 10, "first"), 50.0)
    assert watch.left(Progress(1, second, "second"), 52.0) is None  # nothing is known of its pace yet
    left = watch.left(Progress(3, second, "second"), 54.0)
    assert left == Left(float(second - 3), of_stage=True)


def test_time_that_it_was_held_for_does_not_count() -> None:
    watch = Watch(0.0)
    watch.left(Progress(1, 4, ""), 10.0)
    watch.hold(True, 12.0)
    watch.hold(True, 500.0)
    watch.hold(False, 1012.0)
    watch.hold(False, 1013.0)
    assert watch.left(Progress(2, 4, ""), 1020.0) == Left(20.0, of_stage=False)
