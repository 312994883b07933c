"""The commands `tune` and `learn` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.cli import status_of_command
from data.networks import load_network, save_network
from models.encodings import ThermometerEncoding
from models.integer import IntegerLayer, IntegerNetwork


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs ``rram-bench ...`` in this process and in a folder of its own; status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    for name, inputs in (("small", 64), ("wide", 128)):
        encoding = ThermometerEncoding(64, (8,) if inputs == 64 else (4, 12))
        weights = rng.choice([-1, 1], size=(10, inputs)).astype(np.int8)
        layer = IntegerLayer(weights, np.ones(10, np.int8), np.zeros(10, np.int32))
        save_network(f"{name}.safetensors", IntegerNetwork(name, encoding, (layer,), 10), {"by": "hand"})

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rram-bench", *args])
        status = status_of_command()
        return status, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_both_commands_save_a_network_with_its_chip_and_run(command) -> None:
    for name, how, more in (("tune", "tuned_from", ()), ("learn", "learned_from", ("--set", "epochs=1"))):
        status, out, err = command(
            name, "small.safetensors", "--samples", "200", "--save", "new.safetensors", "--json", *more
        )
        assert status == 0, err
        found, old = load_network("new.safetensors"), load_network("small.safetensors").network
        result = json.loads(out)
        assert found.provenance[how] == old.sha256
        assert found.provenance["chip_id"] == "SIM-KILOBIT-0"
        assert found.provenance["run"] == Path(result["run_file"]).name
        assert found.provenance["before"] == {"by": "hand"}
        assert (found.network.layers[0].weights == old.layers[0].weights).all() == (name == "tune")


def test_what_is_wrong_is_said_in_one_line_before_anything_is_driven(command) -> None:
    for args, said in (
        (("learn", "wide.safetensors"), "at most 96 inputs fit"),
        (("learn", "small.safetensors", "--set", "mode=host"), "sensed or xnor"),
        (("learn", "small.safetensors", "--resume", "no.h5"), "no run file"),
        (("tune", "small.safetensors", "--plan", "no.json"), "no.json"),
        (("tune", "small.safetensors", "--save", "no/where.safetensors"), "no/where"),
        (("tune", "small.safetensors", "--data", "none"), "none"),
        (("tune", "small.safetensors", "--save", "small.safetensors"), "is the network itself"),
        (("tune", "small.safetensors", "--data", "synthetic-ecg"), "name the data that it was trained on with --data"),
    ):
        status, out, err = command(*args)
        assert status == 2, err
        assert said in err
        assert err.strip().count("\n") == 0
        assert out == ""
    assert not list(Path("runs").glob("*.h5"))
