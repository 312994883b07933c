"""The command ``reproduce``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.console import Reporter
from bench.stopping import stop_on_signals
from models.exceptions import UserMistake

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
    """

    name: str
    quick: bool
    seed: int
    device: str
    data_dir: Path | None
    out: Path


def list_command(as_json: bool) -> None:
    """The systems there are, one line each."""
    from bench.reproduce import SYSTEMS, system

    systems = [system(name) for name in SYSTEMS]
    values = {"systems": [{"name": one.name, "summary": one.summary} for one in systems]}
    Reporter(as_json).result(values, [(one.name, one.summary) for one in systems], "systems")


def reproduce_command(asked: Asked, as_json: bool) -> None:
    """Run a system again and put our figures beside the published ones."""
    from bench.reproduce import Context, Verdict, system
    from bench.reproduce.report import page_path, prepare_page, shown, write_page

    chosen = system(asked.name)
    _check_device(asked.device)
    if asked.data_dir is not None and not asked.data_dir.is_dir():
        raise UserMistake(f"--data-dir {asked.data_dir}: there is no such folder")
    report = page_path(asked.out, asked.name, asked.quick)
    prepare_page(report)
    reporter = Reporter(as_json)
    with stop_on_signals() as stop:
        reporter.stage(f"{asked.name}: {chosen.summary}")

        def progress(text: str, fraction: float) -> None:
            stop.check()
            reporter.note(f"{fraction:4.0%} {text}")

        folder = _checkpoints(asked)
        context = Context(
            asked.quick, asked.seed, folder, asked.data_dir, asked.device, progress, lambda: stop.requested
        )
        reproduction = chosen.run(context)
        stop.check()
        write_page(report, reproduction, asked.quick)
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
    folder = asked.out / f"{asked.name}-seed{asked.seed}"
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
