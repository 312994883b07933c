"""What is written into every run file so that the run can be repeated."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from bench.procedure import CellMask, Parameters, Procedure
from bench.session import Bench
from bench.source import points_json
from data.runs import Run

PACKAGES = ("rram-bench", "numpy", "h5py", "pyvisa", "pyserial")


def _temperature(bench: Bench) -> dict[str, float]:
    """What the temperature source measures at the start, in degrees Celsius, where the bench has one."""
    return {} if bench.temperature is None else {"temperature_c": bench.temperature.measure().air_c}


def provenance(
    procedure: Procedure,
    parameters: Parameters,
    bench: Bench,
    cells: CellMask,
    seeds: Mapping[str, int] | None,
    resumes: Run | None = None,
) -> dict[str, Any]:
    """Everything that is needed to repeat the run, as attributes of its file.

    Args:
        resumes: the run that this one goes on with.
    """
    return {
        "parameters": parameters.model_dump_json(),
        "bench_name": bench.config.name,
        "simulated": int(bench.config.simulated),
        "bench_file": bench.text,
        "operating_points": points_json(bench.config.operating_points),
        "chip_id": bench.chip.chip_id,
        "instruments": json.dumps({role: str(identity) for role, identity in bench.identities.items()}),
        "seeds": json.dumps({} if seeds is None else dict(seeds)),
        "cells": int(cells.sum()),
        **_temperature(bench),
        "versions": json.dumps({"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "started": datetime.now(UTC).isoformat(),
        **({} if resumes is None else {"resumes": resumes.path.name}),
        **procedure.about,
    }
