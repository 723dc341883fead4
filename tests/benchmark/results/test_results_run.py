"""Studies are run, kept, skipped, gone on with and taken in; commands are real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results.__main__ import main
from benchmarks.results.catalogue import STUDIES
from benchmarks.results.record import load_record
from benchmarks.results.study import Step, Study
from testing.waiting import eventually
from tests.benchmark.results.fakes import fake, steps

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "benchmarks"


def result(folder: Path, study: str, step: str | None = None) -> object:
    return load_record(folder / "records", study).measurements[step or study].result


def test_what_is_run_is_kept_and_shown(folder, capsys):
    assert main(["run"], [fake("race"), fake("other", "result({'speed': 4})")], folder) == 0
    assert result(folder, "race") == {"speed": 3}
    measurement = load_record(folder / "records", "other").measurements["other"]
    assert measurement.command.startswith("python -c")
    assert measurement.seconds >= 0
    assert measurement.environment["cores"] >= 1
    assert "A speed of 4." in (folder / "RESULTS.md").read_text()
    assert "studies: 2/2 steps" in capsys.readouterr().err


def test_what_a_command_tells_of_its_machine_and_its_time_is_believed(folder):
    told = {
        "created": "2025-01-01",
        "command": "python /home/me/x.py",
        "environment": {"cpu": "C", "cores": 1, "python": "3"},
    }
    study = fake("race", f"result({told | {'speed': 1, 'file': '/home/me/bundles/mine', 'url': 'http://h/a/b'}})")
    assert main(["run"], [study], folder) == 0
    kept = load_record(folder / "records", "race").measurements["race"]
    assert (kept.created, kept.environment) == ("2025-01-01", told["environment"])
    assert kept.result == {"speed": 1, "file": "mine", "url": "http://h/a/b"}


def test_inputs_are_given_as_paths_and_shown_as_names(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "some where" / "mine"
    bundle.mkdir(parents=True)
    (tmp_path / "clips").mkdir()
    study = fake("race", "result({'speed': sys.argv[1:3]})", "{bundle}", "{data}")
    assert main(["run", "--bundle", "some where/mine", "--data", "clips"], [study], folder) == 0
    kept = load_record(folder / "records", "race").measurements["race"]
    assert kept.command.endswith(" bundles/mine clips")
    assert [Path(path).name for path in kept.result["speed"]] == ["mine", "clips"]


def test_what_lacks_something_is_skipped_and_said(folder, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    studies = [fake("race"), fake("ours", "", "{run}", "{bundle}"), fake("card", gpu=True)]
    assert main(["run"], studies, folder) == 0
    told = capsys.readouterr().err
    assert "skipped ours: needs a bundle: --bundle BUNDLE; needs a trained run: --run RUN" in told
    assert "skipped card: needs a GPU, and this machine has none" in told
    assert [file.stem for file in (folder / "records").iterdir()] == ["race"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.exit('no clips at all')", "gave no result: no clips at all"),
        ("result({'speed': 1}); sys.exit(2)", "ended with 2: it printed no reason"),
        ("open(sys.argv[-1], 'w').write('{')", "gave no result"),
    ],
)
def test_a_step_that_fails_keeps_its_old_record_and_the_others_go_on(folder, capsys, code, reason):
    assert main(["run"], [fake("race", "result({'speed': 1})"), fake("other")], folder) == 0
    assert main(["run"], [fake("race", code), fake("other", "result({'speed': 9})")], folder) == 1
    assert result(folder, "race") == {"speed": 1}
    assert result(folder, "other") == {"speed": 9}
    told = capsys.readouterr().err
    assert "failed race: python -c" in told
    assert reason in told


def test_a_goal_that_is_missed_is_a_result(folder):
    assert main(["run"], [fake("race", "result({'speed': 0}); sys.exit(1)")], folder) == 0
    assert result(folder, "race") == {"speed": 0}


def test_only_what_is_missing_or_old_is_run(folder):
    first = steps("race", one="result({'speed': 1})")
    again = steps("race", one="result({'speed': 2})", two="result({'speed': 2})")
    assert main(["run"], [first], folder) == 0
    assert main(["run", "race", "--missing"], [again], folder) == 0
    assert (result(folder, "race", "one"), result(folder, "race", "two")) == ({"speed": 1}, {"speed": 2})
    last = steps("race", one="result({'speed': 3})", two="result({'speed': 3})")
    assert main(["run", "--before", "2020-01-01"], [last], folder) == 0
    assert result(folder, "race", "one") == {"speed": 1}
    assert main(["run", "--before", "2999-01-01T00:00:00+00:00"], [last], folder) == 0
    assert result(folder, "race", "one") == {"speed": 3}


INTERRUPTED = """
import sys
from pathlib import Path
from benchmarks.results.__main__ import main
from tests.benchmark.results.fakes import fake
work = Path(sys.argv[1])
slow = f'''
try:
    open({str(work / "begun")!r}, 'w').close()
    time.sleep(100)
except KeyboardInterrupt:
    open({str(work / "ended")!r}, 'w').close()
'''
sys.exit(main(["run"], [fake("race"), fake("slow", slow)], work))
"""


def test_an_interruption_loses_nothing_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        eventually((tmp_path / "begun").exists, 60)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted; completed steps are kept, the same command with --before 2" in told
    assert result(tmp_path, "race") == {"speed": 3}
    assert not (tmp_path / "records" / "slow.json").exists()
    assert (tmp_path / "ended").exists()
    assert "A speed of 3." in (tmp_path / "RESULTS.md").read_text()


def test_what_was_measured_elsewhere_is_taken_in(folder, tmp_path):
    file = tmp_path / "elsewhere.json"
    environment = {"cpu": "Far", "cores": 64, "gpu": "Card", "driver": "1", "python": "3.12"}
    file.write_text(json.dumps({"speed": 50, "created": "2025-05-05T05:05:05+00:00", "environment": environment}))
    studies = [fake("card", gpu=True), steps("race", one="", two="")]
    assert main(["add", "card", str(file), "--command", "python -m far", "--note", "Cooled."], studies, folder) == 0
    assert main(["add", "race:two", str(file)], studies, folder) == 0
    page = (folder / "RESULTS.md").read_text()
    assert "## The card, 2025-05-05\n\n`python -m far`; machine A.\n\nA speed of 50." in page
    assert "64 cores of Far, Card (driver 1), Python 3.12." in page
    assert "Cooled." in page


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "rade"], "error: there is no study 'rade'; choose from: race"),
        (["run", "--bundle", "nowhere"], "error: nowhere is not there; check the path"),
        (["add", "race", "nowhere.json"], "error: nowhere.json is no output of 'python -c"),
        (["add", "race:three", "nowhere.json"], "error: 'race:three' is no step; choose one of: race:one, race:two"),
        (["add", "race", "nowhere.json"], "error: "),
    ],
)
def test_what_a_user_can_mend_is_one_line(folder, capsys, arguments, line):
    study = steps("race", one="", two="") if "three" in arguments[1] else fake("race")
    assert main(arguments, [study], folder) == 2
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "race.json is no JSON"),
        ('{"study": "race"}', "race.json is no record: measurements: Field required"),
        ('{"study": "other", "measurements": {}}', "race.json is the record of 'other'"),
    ],
)
def test_a_damaged_record_is_one_line(folder, capsys, content, line):
    (folder / "records").mkdir(parents=True)
    (folder / "records" / "race.json").write_text(content)
    assert main([], [fake("race")], folder) == 2
    assert line in capsys.readouterr().err


def test_a_real_study_goes_through(folder):
    (comparing,) = (study for study in STUDIES if study.name == "comparing")
    power = Step("simulated", "python -m benchmarks.compare_power --tries 2")
    assert main(["run"], [Study(comparing.name, comparing.title, (power,), comparing.describe)], folder) == 0
    page = (folder / "RESULTS.md").read_text()
    assert "Simulated noise, 2 tries, 10 rows of 10 windows, a slowdown of 10 %, limit 3 %:" in page
    assert page.count("\n| ") == 6
