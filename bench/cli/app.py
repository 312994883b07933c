"""The commands. Each says what it needs, calls one function of ours, and shows what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.data import data_app
from bench.cli.fitting import add_fits
from bench.cli.networks import network_app
from bench.cli.options import (
    AtOption,
    BenchesOption,
    BenchOption,
    CellsOption,
    ChipOption,
    DataDirOption,
    DataOption,
    FormOption,
    JsonOption,
    ModeOption,
    NetworkArgument,
    OutFolder,
    PlacedOption,
    PlanOption,
    SamplesOption,
    SeedOption,
    SettingsOption,
    benches,
    given,
    one_bench,
    parse_settings,
)
from bench.cli.queue import queue_app
from bench.cli.runs import report_command, runs_app
from bench.cli.tuning import learn_command, tune_command
from bench.cli.wafer import wafer_app

app = typer.Typer(
    help="Test bench of a hybrid CMOS / HfO2-RRAM chip: measure, fit, train, predict, confirm on silicon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
fit_app = typer.Typer(help="Fit device parameters to run files.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(fit_app, name="fit")
add_fits(fit_app)
app.add_typer(data_app, name="data")
app.add_typer(network_app, name="network")
app.add_typer(queue_app, name="queue")
app.add_typer(runs_app, name="runs")
app.add_typer(wafer_app, name="wafer")
app.command("report")(report_command)
app.command("tune")(tune_command)
app.command("learn")(learn_command)

RUNS = Path("runs")


@app.command()
def demo(
    seed: SeedOption = 0,
    bench: BenchOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for everything it leaves.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop: form, characterise, fit, train, predict, infer on silicon, compare."""
    from bench.cli.loop import demo_command

    demo_command(seed, one_bench(bench, "demo"), out, as_json)


@app.command()
def simulate(
    seed: SeedOption = 0,
    write: Annotated[Path, typer.Option("--write", metavar="FILE", help="Bench file to write.")] = Path("bench.toml"),
    device: Annotated[Path | None, typer.Option(help="Device file that the chip's population is drawn from.")] = None,
    baud: Annotated[int | None, typer.Option(min=300, help="Serial speed to honour, in bit/s.")] = None,
    tcp: Annotated[bool, typer.Option("--tcp", help="Serve the board on a TCP port instead of a terminal.")] = False,
    chip: Annotated[str, typer.Option(help="kilobit, ternary, or array64.")] = "kilobit",
    arrays: Annotated[int, typer.Option(min=1, help="Arrays stacked row upon row into a larger macro.")] = 1,
    supply: Annotated[str, typer.Option(help="keithley-2230g or keysight-e36312a.")] = "keithley-2230g",
    smu: Annotated[str, typer.Option(help="keithley-2450 or keithley-2636b.")] = "keithley-2450",
    board: Annotated[str, typer.Option(help="framed, or c2n for the ternary and 64-column chips.")] = "framed",
    wafer: Annotated[
        int, typer.Option(min=0, help="Dies across a wafer of such chips on a simulated prober; 0 for one in a socket.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Serve a simulated bench until Ctrl-C, and write a bench file that points at it."""
    from bench.cli.wires import Simulated, simulate_command

    simulate_command(Simulated(seed, device, baud, tcp, chip, arrays, supply, smu, board, wafer), write, as_json)


@app.command()
def check(
    bench: BenchOption = None,
    patterns: Annotated[
        bool, typer.Option("--patterns", help="Program test patterns too; the array must have been formed.")
    ] = False,
    out: OutFolder = RUNS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Give a verdict on every part of a bench, with causes and what to try; without --patterns no voltage moves."""
    from bench.cli.wires import check_command

    check_command(one_bench(bench, "check"), patterns, out, seed, as_json)


@app.command()
def instruments(
    bench: Annotated[
        Path | None, typer.Option("--bench", metavar="FILE", help="Bench file whose instruments are asked as well.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0.01, max=60, help="How long each may take to answer, in s.")
    ] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """List what is plugged in; only what is of a known kind, or named in a bench file, is asked who it is."""
    from bench.cli.wires import instruments_command

    instruments_command(bench, timeout_s, as_json)


@app.command()
def safe(bench: BenchOption, as_json: JsonOption = False) -> None:
    """Bring a bench to its safe state: every output at 0 V and off."""
    from bench.cli.wires import safe_command

    safe_command(one_bench(bench, "safe"), as_json)


@app.command()
def run(
    procedure: Annotated[str, typer.Argument(metavar="PROCEDURE", help="Name of the procedure, or 'list'.")],
    bench: BenchOption = None,
    settings: SettingsOption = None,
    cells: CellsOption = None,
    at: AtOption = None,
    out: OutFolder = RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every limit and say what the run would take; nothing is opened.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Run file that ended early, to go on with.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Run a procedure and record it. SIGUSR1 pauses it and lets it go on; Ctrl-C stops it."""
    from bench.cli.running import Wanted, list_command, plan_command, run_command

    source = one_bench(bench, "run")
    if procedure == "list":
        list_command(source, as_json)
        return
    wanted = Wanted(procedure, source, parse_settings(settings), cells, given(at), seed, resume)
    if dry_run:
        plan_command(wanted, as_json)
    else:
        run_command(wanted, out, as_json)


@fit_app.command("device")
def fit_device(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="Run file of a characterisation.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Device file to write.")] = Path("device.toml"),
    as_json: JsonOption = False,
) -> None:
    """Fit LRS and HRS populations, bit error rates and the weak-RESET slope to a characterisation."""
    from bench.cli.loop import fit_device_command

    fit_device_command(run_file, out, as_json)


@app.command()
def train(
    network: Annotated[str, typer.Argument(metavar="NAME", help="Architecture, such as digits-bnn.")] = "digits-bnn",
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training data.")] = 60,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Network file.")] = Path("network.safetensors"),
    device: Annotated[
        Path | None,
        typer.Option("--device", metavar="FILE", help="Fitted device whose read errors the weights learn to bear."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a binary network and save it as safetensors."""
    from bench.cli.loop import Examples, train_command

    train_command(network, Examples(data, data_dir), epochs, out, seed, device, as_json)


@app.command("map")
def map_network(
    network: NetworkArgument,
    rows: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Rows of the array, where they are not those of the bench; else 32."),
    ] = None,
    cols: Annotated[int | None, typer.Option(min=1, max=1024, help="Columns of the array, likewise.")] = None,
    bench: BenchesOption = None,
    error_map: Annotated[
        list[Path] | None,
        typer.Option(
            "--error-map", metavar="RUN", help="Run of characterise or bit-error: avoid what is stuck or weak there."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Plan to write (JSON).")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE", help="Picture to write (PNG).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Lay a network on an array, or on several, and say what programming takes; nothing is opened, nothing moves."""
    from bench.cli.silicon import MapOptions, map_command

    runs = () if error_map is None else tuple(error_map)
    map_command(network, MapOptions(benches(bench), rows, cols, runs, out, picture), as_json)


@app.command()
def predict(
    network: NetworkArgument,
    device: Annotated[
        list[Path] | None,
        typer.Option("--device", metavar="FILE", help="Device file fitted to the chip; for several chips one each."),
    ] = None,
    error_map: Annotated[
        list[Path] | None,
        typer.Option("--error-map", metavar="RUN", help="Characterisation of the very chip, in place of --device."),
    ] = None,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    bench: Annotated[
        list[Path] | None,
        typer.Option("--bench", metavar="FILE", help="Bench file whose array and operating points count; several too."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, max=1024, help="Rows of the array.")] = None,
    cols: Annotated[int | None, typer.Option(min=1, max=1024, help="Columns of the array.")] = None,
    plan: PlanOption = None,
    placed: PlacedOption = True,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Predict the accuracy on silicon, with an interval, from a device file or from runs; no bench is needed."""
    from bench.cli.loop import Examples
    from bench.cli.predicting import ToPredict, predict_command

    asked = ToPredict(benches(bench), tuple(given(device)), tuple(given(error_map)), plan, placed, rows, cols)
    predict_command(network, Examples(data, data_dir), asked, seed, as_json)


@app.command()
def infer(
    network: NetworkArgument,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    bench: BenchesOption = None,
    chip: ChipOption = "",
    at: AtOption = None,
    mode: ModeOption = None,
    plan: PlanOption = None,
    samples: SamplesOption = None,
    settings: SettingsOption = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Over conditions, listed as in --set sense_vdd_v=1.0,1.1,1.2.")
    ] = False,
    form: FormOption = False,
    resume: Annotated[
        list[Path] | None,
        typer.Option("--resume", metavar="RUN", help="Run file that ended early, to go on with; one for each chip."),
    ] = None,
    out: OutFolder = RUNS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Program a network tile by tile and infer a test set on silicon, on several chips with a --bench for each."""
    from bench.cli.confirming import Inferring, infer_command
    from bench.cli.loop import Examples
    from bench.cli.on_bench import on_each
    from bench.cli.several_chips import infer_together_command
    from bench.source import parse_overrides

    wanted = Inferring(tuple(given(mode)), plan, parse_settings(settings), sweep, tuple(given(resume)))
    on = on_each(benches(bench) or ("simulated",), out, seed, chip, form, parse_overrides(given(at)))
    examples = Examples(data, data_dir, samples)
    if len(on) > 1:
        infer_together_command(network, examples, on, wanted, as_json)
    else:
        infer_command(network, examples, on[0], wanted, as_json)


@app.command()
def confirm(
    network: NetworkArgument,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    bench: BenchesOption = None,
    chip: ChipOption = "",
    at: AtOption = None,
    mode: ModeOption = None,
    plan: PlanOption = None,
    error_map: Annotated[
        list[Path] | None,
        typer.Option("--error-map", metavar="RUN", help="Characterisation of this very chip; else it is made now."),
    ] = None,
    placed: PlacedOption = True,
    samples: SamplesOption = None,
    form: FormOption = False,
    out: OutFolder = RUNS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Predict the accuracy on this chip, or on several, infer, and say whether it came out as predicted, and why."""
    from bench.cli.confirming import ToConfirm, confirm_command
    from bench.cli.loop import Examples
    from bench.cli.on_bench import on_each
    from bench.cli.several_chips import confirm_together_command
    from bench.source import parse_overrides

    asked = ToConfirm(tuple(given(mode)), plan, tuple(given(error_map)), placed)
    on = on_each(benches(bench) or ("simulated",), out, seed, chip, form, parse_overrides(given(at)))
    examples = Examples(data, data_dir, samples)
    if len(on) > 1:
        confirm_together_command(network, examples, on, asked, as_json)
    else:
        confirm_command(network, examples, on[0], asked, as_json)


@app.command()
def validate(
    report: Annotated[Path | None, typer.Option("--report", metavar="DIR", help="Folder for a page of plots.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Hold the models and the simulated chip against published figures; status 1 when a hard one fails."""
    from bench.cli.physics import validate_command

    validate_command(seed, report, as_json)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the system, or 'list'.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Scaled down: digits or generated data, a minute or so.")
    ] = False,
    seed: SeedOption = 0,
    device: Annotated[str, typer.Option("--device", help="Where networks are trained: cpu or cuda.")] = "cpu",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder of data sets instead of RRAM_BENCH_DATA.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the report and for checkpoints.")] = RUNS
    / "reproduce",
    data: Annotated[str | None, typer.Option("--data", metavar="NAME", help="Run on this data set only.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of each training.")] = None,
    filters: Annotated[int | None, typer.Option("--filters", min=1, help="Filters of the first convolution.")] = None,
    draws: Annotated[int | None, typer.Option("--draws", min=1, help="Sets of errors at each error rate.")] = None,
    hidden: Annotated[int | None, typer.Option("--hidden", min=1, help="Neurons of each hidden layer.")] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME", help="The one experiment of several to run.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a system of the source papers again and put our figures beside the published ones."""
    from bench.cli.reproduce import Asked, list_command, reproduce_command
    from bench.reproduce.frame import Size

    if name == "list":
        list_command(as_json)
        return
    size = Size(data, epochs, filters, draws, hidden, only)
    reproduce_command(Asked(name, quick, seed, device, data_dir, out, size), as_json)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Sweep file (TOML); with --report also the results.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Results (HDF5); beside the sweep file by default.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, max=1024, help="Processes here; as many as cores by default.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Workers of a Dask scheduler: tcp://HOST:PORT.")
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Workers in Slurm jobs, as the file's [slurm] says.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Compute points that failed again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the points; nothing is started.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Show what came of it; nothing is started.")] = False,
    result: Annotated[
        list[str] | None, typer.Option("--result", metavar="NAME", help="Result to report, or a pattern: '*.mean'.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="CONDITION", help="Condition along the plot.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Plot that --report writes.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Table that --report writes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment over a grid or a sample of conditions and seeds; the same command goes on after a stop."""
    from bench.cli.sweep import ReportOptions, SweepOptions, list_command, report_command, sweep_command

    options = SweepOptions(file, out, workers, scheduler, slurm, retry)
    asked = ReportOptions(tuple(given(result)), against, plot, csv)
    if report:
        report_command(options, asked, as_json)
        return
    asked.refuse_without_report()
    if dry_run:
        list_command(options, as_json)
    else:
        sweep_command(options, as_json)


@app.command()
def recover(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Run file that a crash left, or a folder of them.")],
    as_json: JsonOption = False,
) -> None:
    """Close run files that a crash left open; every acknowledged record is kept."""
    from bench.cli.wires import recover_command

    recover_command(path, as_json)


@app.command()
def gui(
    bench: Annotated[
        str | None,
        typer.Option(
            "--bench",
            metavar="FILE",
            envvar="RRAM_BENCH_FILE",
            help="Bench file, or 'simulated'; by default the simulated one, or that of last time, filled in.",
        ),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Open the window."""
    from bench.cli.wires import gui_command

    gui_command(bench, seed, as_json)
