"""Where a command on silicon runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.stopping import stop_on_signals

if TYPE_CHECKING:
    from bench.stages import StagedRuns, Stages


@dataclass(frozen=True)
class OnBench:
    """A bench as it was asked for.

    Attributes:
        source: bench file, or "simulated".
        out: folder of the run files.
        seed: of all draws, and of the simulated bench.
        chip: kind of the simulated chip; empty for the usual one.
        form: form the chip first; a simulated one that the command starts is always formed.
        at: operating points other than those of the bench file.
    """

    source: str
    out: Path
    seed: int
    chip: str = ""
    form: bool = False
    at: Mapping[str, float] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """The command starts a simulated bench of its own."""
        from bench.session import SIMULATED

        return self.source == SIMULATED

    @property
    def fresh(self) -> bool:
        """The chip comes from the wafer, and is formed first."""
        # A simulated chip is fresh at every start; one in a laboratory was formed once and for all.
        return self.form or self.simulated

    @contextmanager
    def open(self, stages: Stages) -> Iterator[StagedRuns]:
        """Connect, with Ctrl-C as a stop; what follows runs as stages."""
        with open_together([self], stages) as (runs,):
            yield runs


def on_each(
    sources: Sequence[str], out: Path, seed: int, chip: str, form: bool, at: Mapping[str, float]
) -> list[OnBench]:
    """Benches that share their settings; the simulated ones among them differ by their seeds."""
    return [OnBench(source, out, seed + number, chip, form, at) for number, source in enumerate(sources)]


@contextmanager
def open_together(wanted: Sequence[OnBench], stages: Stages) -> Iterator[tuple[StagedRuns, ...]]:
    """Connect to benches, with Ctrl-C as a stop of all of them; whatever ends the block, each is switched off.

    Raises:
        UserMistake: two of them are the same bench, or would drive the same instrument or chip.
    """
    from bench.runner import prepare_folder
    from bench.source import check_apart, open_at
    from bench.stages import StagedRuns

    if len(wanted) > 1:
        check_apart([on.source for on in wanted])
    for on in wanted:
        prepare_folder(on.out)
    with ExitStack() as opened:
        stop = opened.enter_context(stop_on_signals())
        yield tuple(
            StagedRuns(
                opened.enter_context(open_at(on.source, on.seed, on.at, on.chip or None)),
                on.seed,
                on.out,
                stages,
                stop,
            )
            for on in wanted
        )
