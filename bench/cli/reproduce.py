"""The command ``reproduce``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.console import Reporter
from bench.reproduce.frame import Size
from bench.stopping import stop_on_signals
from models.exceptions import UserMistake
from models.processes import agreed, from_first, launched, together

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Asked:
    """What a person asked for.

    Attributes:
        name: of the system.
        quick: scaled down.
        seed: of every random draw.
        device: "cpu" or "cuda".
        data_dir: folder of data sets; None for that of RRAM_BENCH_DATA.
        out: folder for the page and the checkpoints.
        size: what is of another size than in the full run.
    """

    name: str
    quick: bool
    seed: int
    device: str
    data_dir: Path | None
    out: Path
    size: Size = field(default_factory=Size)

    @property
    def called(self) -> str:
        """The system with its sizes, as files and folders are called: those of another size are never mixed in."""
        return "-".join([self.name, *(f"{name}-{value}" for name, value in self.size.given().items())])


def list_command(as_json: bool) -> None:
    """The systems there are, one line each."""
    from bench.reproduce import SYSTEMS, system

    systems = [system(name) for name in SYSTEMS]
    values = {"systems": [{"name": one.name, "summary": one.summary} for one in systems]}
    Reporter(as_json).result(values, [(one.name, one.summary) for one in systems], "systems")


def reproduce_command(asked: Asked, as_json: bool) -> None:
    """Run a system again and put our figures beside the published ones; processes of torchrun share the trainings."""
    _check_device(asked.device)
    with together(launched(), asked.device):
        _reproduce(asked, as_json)


def _reproduce(asked: Asked, as_json: bool) -> None:
    from bench.pages import prepare_page
    from bench.reproduce import Context, Verdict, system
    from bench.reproduce.report import page_path, shown, write_page

    chosen = system(asked.name)
    chosen.check_size(asked.size, asked.quick)
    if asked.data_dir is not None and not asked.data_dir.is_dir():
        raise UserMistake(f"--data-dir {asked.data_dir}: there is no such folder")
    report = page_path(asked.out, asked.called, asked.quick)
    from_first(lambda: prepare_page(report, "--out"))
    reporter = Reporter(as_json)
    with stop_on_signals() as stop:
        reporter.stage(f"{asked.name}: {chosen.summary}")

        def check() -> None:
            if agreed(stop.requested):
                stop.request("another process was asked to")
            stop.check()

        def progress(text: str, fraction: float) -> None:
            check()
            reporter.note(f"{fraction:4.0%} {text}")

        folder = from_first(lambda: _checkpoints(asked))
        context = Context(
            asked.quick,
            asked.seed,
            folder,
            asked.data_dir,
            asked.device,
            progress,
            lambda: stop.requested,
            asked.size,
            reporter.note,
        )
        reproduction = chosen.run(context)
        check()
        from_first(lambda: write_page(report, reproduction, asked.quick, asked.size))
        reporter.done("done")
    values = {"name": asked.name, "rows": [row.as_plain() for row in reproduction.rows], "report": str(report)}
    lines = [
        (
            f"{'FAIL' if row.verdict is Verdict.NOT_REPRODUCED else 'ok  '} {row.what}",
            f"{shown(row.ours)} (published: {shown(row.published)}; {row.verdict})",
        )
        for row in reproduction.rows
    ]
    reporter.result(values, lines, f"{asked.name}{', quick' if asked.quick else ''}, seed {asked.seed}")
    if not as_json:
        print(f"report  {report}")


def _checkpoints(asked: Asked) -> Path:
    """Folder for checkpoints; those of another seed are never mixed in."""
    folder = asked.out / f"{asked.called}-seed{asked.seed}"
    if not asked.quick:
        folder.mkdir(exist_ok=True)
    return folder


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise UserMistake(f"--device {device!r}: there are {', '.join(DEVICES)}")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserMistake("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
