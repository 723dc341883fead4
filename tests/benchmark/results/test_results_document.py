"""RESULTS.md is what its records say, and says what has no record."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results.catalogue import STUDIES
from benchmarks.results.document import render
from benchmarks.results.markdown import between, mean, paragraph
from benchmarks.results.record import Measurement, Record, load_record
from tests.benchmark.results.fakes import ENVIRONMENT, fake, steps
from vdeploy.core.errors import BenchmarkError

FOLDER = Path(__file__).parents[3] / "benchmarks"


def measured(
    result: object, command: str = "python", created: str = "2025-03-01T10:00:00+00:00", **other
) -> Measurement:
    return Measurement(command=command, created=created, environment=ENVIRONMENT | other, result=result)


def record(study: str, **measurements: Measurement) -> Record:
    return Record(study=study, measurements=measurements)


@pytest.mark.slow
def test_the_page_is_what_the_records_say():
    records = [load_record(FOLDER / "records", study.name) for study in STUDIES]
    shown = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    assert render(STUDIES, records) == shown, "write it again: python -m benchmarks.results"


def test_every_record_is_shown():
    known = {study.name: {step.name for step in study.steps} for study in STUDIES}
    assert len(known) == len(STUDIES)
    files = sorted((FOLDER / "records").glob("*.json"))
    assert files
    for file in files:
        assert set(load_record(file.parent, file.stem).measurements) <= known[file.stem], file.name


def test_figures_machine_date_and_command_come_out_of_the_record():
    page = render([fake("race")], [record("race", race=measured({"speed": 7}, "python -m race --laps 2"))])
    assert "## The race, 2025-03-01\n\n`python -m race --laps 2`; machine A.\n\nA speed of 7.\n\n| speed | |\n" in page
    assert "Machine A: 2 cores of Abacus, 16 GiB, no GPU, Python 3.12, a 1." in page


def test_what_was_not_run_is_a_line_with_its_command():
    page = render([fake("race", "", "--bundle", "{bundle}"), fake("card", gpu=True)], [record("race"), record("card")])
    assert "## The race\n\nNot run on this machine: `python -c" in page
    assert " --bundle BUNDLE`\n" in page
    assert "## The card\n\nAbsent, no GPU was at hand: `python -c" in page


def test_a_study_shows_the_steps_that_there_are():
    study = steps("race", one="", two="")
    page = render([study], [record("race", two=measured({"speed": 5}))])
    assert "| two | 5 |" in page
    assert page.count("Not run on this machine") == 1


def test_several_machines_dates_and_notes_are_told_apart():
    first = measured({"speed": 1}, "a").model_copy(update={"transcribed": True})
    second = measured({"speed": 2}, "b", "2025-04-02", gpu="Card", driver="9", load_average=[5.0, 0, 0])
    page = render(
        [steps("race", one="", two="")], [record("race", one=first, two=second.model_copy(update={"note": "Wet."}))]
    )
    assert "Machine B: 2 cores of Abacus, 16 GiB, Card (driver 9), Python 3.12, a 1." in page
    assert (
        "## race, 2025-03-01 and 2025-04-02\n\n`a` and `b`; machines A and B; load average before it began: 5.0."
        in page
    )
    assert page.endswith("Transcribed from what the command printed: one.\n\nWet.\n")


def test_a_record_that_lacks_a_figure_is_one_clear_line():
    with pytest.raises(BenchmarkError, match=r"record of race .*KeyError: 'speed'.*results run race"):
        render([fake("race")], [record("race", race=measured({}))])


@pytest.mark.parametrize("name", ["features", "exports", "inference", "timeline"])
def test_a_section_that_lacks_a_figure_is_one_clear_line(name):
    (study,) = (each for each in STUDIES if each.name == name)
    with pytest.raises(BenchmarkError, match=rf"record of {name} .*KeyError: .*results run {name}") as caught:
        render([study], [record(name, **{name: measured({})})])
    assert "\n" not in str(caught.value)


def test_words_and_figures():
    assert between(["a"]) == "a"
    assert between(["a", "b", "c"]) == "a, b and c"
    assert mean({"value": 0.5, "half_width": 0.25}, 2, sign=True) == "+0.50 ± 0.25"
    assert mean({"value": 0.5, "half_width": None}) == "0.500"
    assert mean(None) is None
    code = f"`{'word ' * 30}`"
    assert code in paragraph(f"{'text ' * 20}{code} more").splitlines()
