"""Two revisions are compared by their real commands; here these are small programs that stand for vdeploy."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.checkouts import Comparison, Revision
from benchmarks.revisions import as_text, main, run_checks
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.core.errors import BenchmarkError

PROGRAM = """
import json, shutil, sys, time
from pathlib import Path
verb, *words = sys.argv[1:]
folder = Path({folder!r})
option = lambda name: Path(words[words.index(name) + 1])
if verb == "--help":
    time.sleep({help})
elif verb == "data":
    (Path(words[1]) / "calm").mkdir(parents=True)
elif verb == "train":
    if {fails}:
        sys.exit("first line\\nerror: no clips can be used")
    option("--out").mkdir(parents=True)
    (option("--out") / "clips.csv").write_text("path,split\\na.mp4,test\\nb.mp4,train\\n")
elif verb == "export":
    shutil.copytree(folder / "bundle", option("--out"))
elif verb == "predict":
    print(json.dumps({{"predictions": [{{"path": words[0], "probability": {probability}}}]}}))
elif words[0] == "scale":
    print(json.dumps({{"studies": [{{"points": [{{"seconds": {epoch}}}]}}]}}))
else:
    print(json.dumps({{"rows": [{{"runtime": "triton", "clips_per_s": 1 / {epoch}, "reason": None}}]}}))
"""


@pytest.fixture
def checkout(tmp_path):
    """Makes a checkout whose bundle has weights of a seed, and whose commands answer as they are told to."""

    def make(name: str, *, seed: int = 0, **answers) -> Revision:
        root = tmp_path / name
        make_tiny_bundle(root / "bundle", seed=seed)
        (root / "vdeploy").mkdir()
        (root / "vdeploy" / "__init__.py").touch()
        values = {"folder": str(root), "help": 0, "fails": False, "probability": 0.25, "epoch": 1.0, **answers}
        (root / "vdeploy" / "__main__.py").write_text(PROGRAM.format(**values))
        return Revision(root, tmp_path / f"{name}-work")

    return make


@pytest.fixture
def compare(tmp_path):
    def run(before: Revision, after: Revision, *names: str):
        (tmp_path / "common").mkdir()
        comparison = Comparison(before, after, tmp_path / "common", None, 4, 0.0)
        return list(run_checks(comparison, list(names)))

    return run


@pytest.fixture
def patient(monkeypatch):
    """A limit of ``--help`` that a busy machine meets as well."""
    monkeypatch.setattr("benchmarks.revisions.HELP_SECONDS", 60)


@pytest.mark.slow
def test_equal_revisions_meet_every_limit(checkout, compare, patient):
    checks = compare(checkout("before"), checkout("after"), "help", "artifacts", "training", "served", "demo")
    assert [(check.name, check.verdict) for check in checks] == [
        ("help", "met"),
        ("extractor onnx-fp32", "met"),
        ("classifier onnx-fp32", "met"),
        ("training", "met"),
        ("served", "met"),
        ("demo", "met"),
    ]
    assert checks[1].text == "same hash"
    assert "met       training                1 -> 1, ratio 1.000 (" in as_text(checks, "machine")


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "verdict"), [(1.2, "broken"), (1.03, "undecided"), (0.9, "met")])
def test_a_slowdown_is_broken_only_where_it_is_certain(checkout, compare, epoch, verdict):
    checks = compare(checkout("before"), checkout("after", epoch=epoch), "training", "served")
    assert [check.verdict for check in checks] == [verdict, verdict]


def test_other_outputs_and_probabilities_are_found(checkout, compare):
    checks = compare(checkout("before"), checkout("after", seed=1, probability=0.2500021), "artifacts", "demo")
    assert [check.verdict for check in checks] == ["broken", "broken", "broken"]
    assert checks[0].text.startswith("other hash, largest difference of outputs ")
    assert checks[2].text == "1 clips, largest difference 2.1e-06"


def test_slow_help_is_found(checkout, compare):
    (check,) = compare(checkout("before"), checkout("after", help=0.4), "help")
    assert check.verdict == "broken"
    assert check.after > 0.4


def test_a_command_that_fails_does_not_stop_the_others(checkout, compare, patient):
    checks = compare(checkout("before", fails=True), checkout("after"), "training", "help")
    assert [check.verdict for check in checks] == ["failed", "met"]
    assert checks[0].text.endswith("before: vdeploy train " + checks[0].text.split("vdeploy train ")[1])
    assert checks[0].text.endswith(": error: no clips can be used")


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="is no checkout of vdeploy; give the root folder"):
        Revision(tmp_path, tmp_path / "work")


@pytest.mark.parametrize(("epoch", "code"), [(1.0, None), (1.5, 1)])
def test_the_script_says_by_its_exit_code_whether_a_limit_is_broken(checkout, tmp_path, monkeypatch, epoch, code):
    folders = [str(checkout(name, epoch=value).root) for name, value in (("before", 1.0), ("after", epoch))]
    words = [*folders, "--only", "training", "--rounds", "4", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["revisions", *words])
    if code is None:
        main()
    else:
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == code
    found = json.loads((tmp_path / "out.json").read_text())
    assert [check["name"] for check in found["checks"]] == ["training"]
    assert found["environment"]["cores"] >= 1
