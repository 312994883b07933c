"""Networks that a chip had a hand in, tuned to its sums or learnt on it: saved with where they came from."""

from __future__ import annotations

from pathlib import Path

from data.networks import NetworkFile, save_network
from data.runs import open_run
from models.integer import IntegerNetwork


def save_made(
    out: Path, made: IntegerNetwork, how: str, original: NetworkFile, run_file: Path, data: str, seed: int
) -> None:
    """Write a network with the chip and the run that made it, and what the one before came from.

    Args:
        how: what the chip did, such as "tuned_from"; the key of the checksum of the one before.
        original: the network before.
        run_file: of the run.
        data: name of the data set.
        seed: of the run.

    Raises:
        UserMistake: it cannot be written there.
    """
    provenance = {
        how: original.network.sha256,
        "chip_id": str(open_run(run_file).attributes["chip_id"]),
        "run": run_file.name,
        "data": data,
        "seed": str(seed),
        "before": original.provenance,
    }
    save_network(out, made, provenance)
