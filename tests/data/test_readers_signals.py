from __future__ import annotations

import numpy as np
import pytest

from data.electrodes import LEADS, exchanged, leads_with_electrodes
from data.readers.cinc2011 import read_qualities, read_record
from data.readers.edf import read_edf
from data.readers.wfdb_records import read_wfdb
from models.exceptions import UserMistake
from tests.data import formats

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")
RATE = 160
CUES = [(0.5, 4.2, "T0"), (2.25, 4.1, "T1"), (3.5, 4.1, "T2")]


@pytest.fixture
def brain_waves():
    return np.random.default_rng(5).integers(-3000, 3000, (3, 5 * RATE))


def test_an_edf_file_is_read_to_a_step_with_its_annotations(tmp_path, brain_waves):
    path = tmp_path / "S001R04.edf"
    path.write_bytes(formats.edf(brain_waves, RATE, CUES))
    recording = read_edf(path)
    assert recording.signals.dtype == np.float32
    assert np.allclose(recording.signals, brain_waves, atol=0.5)
    assert (recording.rate_hz, recording.channels, recording.units) == (160.0, ("C0", "C1", "C2"), ("uV",) * 3)
    assert [(mark.onset_s, mark.duration_s, mark.text) for mark in recording.marks] == CUES


def test_a_window_is_cut_where_it_was_asked_for(tmp_path, brain_waves):
    path = tmp_path / "S001R04.edf"
    path.write_bytes(formats.edf(brain_waves, RATE, CUES))
    recording = read_edf(path)
    assert np.array_equal(recording.window(2.25, 80), recording.signals[:, 360:440])
    assert recording.window(-0.1, 80) is None
    assert recording.window(4.75, 80) is None


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-100], r"has \d+ bytes, its header asks for \d+; it is cut short"),
        (lambda content: content[:700], "its header is cut short"),
        (lambda content: b"", "is no EDF file, its number of signals reads b''"),
        (lambda content: b"\x89PNG" * 500, "is no EDF file"),
        (lambda content: content.replace(b"EDF+C", b"EDF+D"), "cannot be read as EDF"),
    ],
)
def test_a_bad_edf_file_is_refused_in_a_line_that_names_it(tmp_path, brain_waves, damage, says):
    path = tmp_path / "S001R04.edf"
    path.write_bytes(damage(formats.edf(brain_waves, RATE, CUES)))
    with pytest.raises(UserMistake, match=says) as caught:
        read_edf(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_edf_file_is_named(tmp_path):
    with pytest.raises(UserMistake, match=r"cannot read the recording .*S001R04\.edf: No such file"):
        read_edf(tmp_path / "S001R04.edf")


@pytest.fixture
def heart_beats():
    return np.random.default_rng(6).uniform(-2.0, 2.0, (2, 1000))


def test_a_wfdb_record_is_read_in_millivolts_with_its_beats(tmp_path, heart_beats):
    beats = [(100, "N"), (480, "V")]
    formats.write_wfdb(tmp_path, "100", heart_beats, 360, beats=beats, comments=["Reason for admission: none"])
    recording = read_wfdb(tmp_path / "100.hea", "atr")
    assert np.allclose(recording.signals, heart_beats, atol=0.0006)
    assert (recording.rate_hz, recording.units) == (360.0, ("mV", "mV"))
    assert [(round(mark.onset_s * 360), mark.text) for mark in recording.marks] == beats
    assert recording.comments == ("Reason for admission: none",)


def test_a_bad_wfdb_record_is_refused_in_a_line_that_names_it(tmp_path, heart_beats):
    with pytest.raises(UserMistake, match=r"there is no record .*100\.hea"):
        read_wfdb(tmp_path / "100.hea")
    formats.write_wfdb(tmp_path, "100", heart_beats, 360)
    with pytest.raises(UserMistake, match=r"100\.hea: the record cannot be read.*FileNotFoundError.*100\.atr"):
        read_wfdb(tmp_path / "100.hea", "atr")
    signals = tmp_path / "100.dat"
    signals.write_bytes(signals.read_bytes()[:-400])
    with pytest.raises(UserMistake, match=r"100\.hea: the record cannot be read, .* cut short") as caught:
        read_wfdb(tmp_path / "100.hea")
    assert "\n" not in str(caught.value)
    signals.unlink()
    with pytest.raises(UserMistake, match=r"the record cannot be read.*FileNotFoundError"):
        read_wfdb(tmp_path / "100.hea")


def test_leads_of_a_challenge_record_come_in_the_usual_order(tmp_path):
    formats.write_cinc(tmp_path, records=1)
    leads = dict(zip(LEADS, read_record(tmp_path / "1000000.txt"), strict=True))
    half_a_step = 0.0026
    assert np.allclose(leads["II"] - leads["I"], leads["III"], atol=1e-6)
    assert np.allclose(leads["aVR"], -(leads["I"] + leads["II"]) / 2, atol=half_a_step)
    assert np.allclose(leads["aVL"], (leads["I"] - leads["III"]) / 2, atol=half_a_step)
    assert np.allclose(leads["aVF"], (leads["II"] + leads["III"]) / 2, atol=half_a_step)
    assert np.allclose(leads["V6"], 0.005 * formats.cinc_record(0)[:, 12], atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2].rsplit("\n", 1)[0], r"holds \(\d+, 13\) numbers, expected \(5000, 13\)"),
        (lambda text: text[:-8], "is no record of sample number and twelve leads"),
        (lambda text: "", "is no record|holds"),
        (lambda text: text.replace("\n17,", "\n18,"), "sample numbers do not count from 0 to 4999"),
        (lambda text: text.replace("\n3,", "\n3,nan,"), "is no record"),
    ],
)
def test_a_bad_challenge_record_is_refused_in_a_line_that_names_it(tmp_path, damage, says):
    formats.write_cinc(tmp_path, records=1)
    path = tmp_path / "1000000.txt"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserMistake, match=says) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", [True, False])
def test_qualities_are_read_from_either_kind_of_list(tmp_path, reference):
    formats.write_cinc(tmp_path, records=3, reference=reference)
    assert read_qualities(tmp_path) == {"1000000": True, "1000001": True, "1000002": False}


def test_a_list_of_qualities_that_is_missing_or_wrong_is_named(tmp_path):
    with pytest.raises(UserMistake, match=r"RECORDS-acceptable: No such file.*REFERENCE\.csv"):
        read_qualities(tmp_path)
    (tmp_path / "REFERENCE.csv").write_text("record,quality\n1000000,good\n")
    with pytest.raises(UserMistake, match=r"REFERENCE\.csv, line 2: '1000000,good'"):
        read_qualities(tmp_path)


def test_exchanged_arms_turn_lead_one_over_and_exchange_two_and_three():
    generator = np.random.default_rng(2)
    potentials = generator.normal(size=(12, 50)).astype(np.float32)
    right = leads_with_electrodes(potentials)  # III and aVR to aVF now fit I and II
    wrong = leads_with_electrodes(right, exchanged("RA", "LA"))
    named = dict(zip(LEADS, right, strict=True))
    found = dict(zip(LEADS, wrong, strict=True))
    for lead, expected in (("I", -named["I"]), ("II", named["III"]), ("III", named["II"]), ("aVR", named["aVL"])):
        assert np.allclose(found[lead], expected, atol=1e-5)
    for lead in ("aVF", "V1", "V6"):  # what lies on the axis of symmetry stays
        assert np.allclose(found[lead], named[lead], atol=1e-5)
    assert np.allclose(leads_with_electrodes(wrong, exchanged("RA", "LA")), right, atol=1e-5)


def test_exchanged_chest_electrodes_exchange_two_leads():
    leads = leads_with_electrodes(np.random.default_rng(3).normal(size=(12, 9)).astype(np.float32))
    wrong = leads_with_electrodes(leads, exchanged("C1", "C2"))
    assert np.allclose(wrong[[6, 7]], leads[[7, 6]], atol=1e-5)
    assert np.allclose(np.delete(wrong, [6, 7], 0), np.delete(leads, [6, 7], 0), atol=1e-5)
    with pytest.raises(UserMistake, match="there is no electrode 'V1'; there are RA, LA"):
        exchanged("V1", "C2")
