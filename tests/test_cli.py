"""The command line: help without heavy imports, one-line errors, exit codes, and results for people and programs."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import typer

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.videos import solid_frame, write_video
from tests.artifacts.test_signing import make_keys
from tests.conftest import Done
from vdeploy import __version__
from vdeploy.cli import app as cli
from vdeploy.core.errors import BundleError
from vdeploy.formats import FORMATS
from vdeploy.models.backbones.vgg19.feature_layers import DIMENSIONS
from vdeploy.video.clips import ClipSpec, read_clip

ROOT = Path(__file__).parents[1]
QUICK = ("--seconds", "0", "--what", "pipeline")
BROKEN = ("non_violent/empty.mp4", "violent/corrupt.avi", "violent/text.mp4")


def start(*arguments: object) -> Done:
    """Runs a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "vdeploy", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def verbs() -> list[tuple[str, ...]]:
    """Every command and group of the app."""
    app = typer.main.get_command(cli.app)
    found: list[tuple[str, ...]] = [()]
    for name, command in app.commands.items():
        found.append((name,))
        found += [(name, below) for below in getattr(command, "commands", {})]
    return found


every_verb = pytest.mark.parametrize("verb", verbs(), ids=lambda verb: " ".join(verb) or "vdeploy")


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("cli") / "bundle").root


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "blue.mp4", [solid_frame((10, 10, 250))] * 8)
    write_video(folder / "red.mp4", [solid_frame((250, 10, 10))] * 8)
    (folder / "text.mp4").write_text("no video\n" * 40)
    return folder


def one_line(done: Done, code: int) -> str:
    """The only line of a command that failed."""
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    return done.err.removeprefix("error: ").rstrip()


HELP = """
    import sys
    from vdeploy.cli import main
    heavy = "cryptography cv2 google grpc keras matplotlib numpy onnx onnxruntime sklearn tensorflow tf2onnx"
    # Typer imports pydantic itself, so look for those that build on it.
    pydantic = "training.recipe vdeploy.artifacts.bundle"
    for verb in sys.argv[1:]:
        sys.argv = ["vdeploy", *verb.split(), "--help"]
        try:
            main()
        except SystemExit as ending:
            found = {*heavy.split(), "tritonclient", *pydantic.split()} & set(sys.modules)
            print(f"{verb}: code {ending.code}, heavy:", *sorted(found), file=sys.stderr)
"""


def test_help_imports_nothing_heavy():
    names = [" ".join(verb) for verb in verbs()]
    command = [sys.executable, "-c", textwrap.dedent(HELP), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.splitlines() == [f"{name}: code 0, heavy:" for name in names]
    usages = [line.removeprefix("Usage: vdeploy") for line in done.stdout.splitlines() if line.startswith("Usage: ")]
    assert all(usage.startswith(f" {name}".rstrip()) for usage, name in zip(usages, names, strict=True))


@every_verb
def test_every_option_and_argument_is_explained(verb):
    command = typer.main.get_command(cli.app)
    for name in verb:
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{' '.join(verb)} {parameter.name}"


@pytest.mark.parametrize("verb", ["ablate", "features", "lr-find", "train", "tune"])
def test_every_layer_is_offered_by_name(verb):
    parameters = typer.main.get_command(cli.app).commands[verb].params
    (option,) = (parameter for parameter in parameters if "--features" in parameter.opts)
    assert [f"{layer} ({size})" in option.help for layer, size in DIMENSIONS.items()] == [True] * len(DIMENSIONS)


def test_the_module_runs_as_the_command_does():
    assert start("--version") == (0, f"vdeploy {__version__}\n", "")


def test_a_missing_bundle_is_one_line_and_code_1():
    line = one_line(start("benchmark", "nowhere"), 1)
    assert line == "nowhere is no bundle: it holds no bundle.json; make one with: vdeploy export RUN"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("data", "scan", "nowhere"), "nowhere does not exist; "),
        (("train", "nowhere", "--weights", "random"), "nowhere does not exist; "),
        (("train", "nowhere", "--set", "training.epoch=3"), "unknown key training.epoch, did you mean 'epochs'"),
        (("train", "nowhere", "--recipe", "fats"), "there is no recipe 'fats'"),
        (("evaluate", "nowhere", "data"), "nowhere is no finished run"),
        (("evaluate", "nowhere", "data", "--split", "exam"), "there is no split 'exam'"),
        (("export", "nowhere"), "nowhere is no finished run"),
        (("export", "nowhere", "--format", "onxx-fp32"), "did you mean onnx-fp32?"),
        (("predict", "nowhere.mp4", "--bundle", "b"), "there is no file, folder or match for nowhere.mp4"),
        (("predict", "pyproject.toml"), "give either a bundle or a server; add --bundle BUNDLE or --url HOST:PORT"),
        (
            ("predict", "pyproject.toml", "--bundle", "b", "--url", "u:1"),
            "give either a bundle or a server, not both; leave out",
        ),
        (("predict", "pyproject.toml", "--bundle", "nowhere"), "nowhere is no bundle"),
        (("predict", "pyproject.toml", "--url", "127.0.0.1:9"), "127.0.0.1:9"),
        (("benchmark", "nowhere"), "nowhere is no bundle"),
        (("benchmark", "nowhere", "--batch", "1,0"), "'0' is no batch size"),
        (("benchmark", "nowhere", "--what", "network"), "there is no workload 'network'"),
        (("benchmark", "nowhere", "--format", "onxx-fp32"), "did you mean onnx-fp32?"),
        (("serve", "nowhere"), "nowhere is no bundle"),
        (("bundle", "show", "nowhere"), "nowhere is no bundle"),
        (("bundle", "verify", "nowhere"), "nowhere is no bundle"),
        (("bundle", "sign", "nowhere", "--key", "key.pem"), "nowhere is no bundle"),
        (
            ("export", "nowhere", "--batch", "1,16,64"),
            "onnx-fp32 ignores --batch, did you mean --format tensorrt-fp16?",
        ),
        (("export", "nowhere", "--target-sm", "89"), "did you mean --format tensorrt-rtx-fp16?"),
        (("export", "nowhere", "--calibration-clips", "9"), "did you mean --format onnx-int8?"),
        (("predict", "pyproject.toml", "--url", "u:1", "--format", "onnx-int8"), "a server ignores --format"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_user_can_mend_is_one_line_and_code_1(vdeploy, monkeypatch, arguments, expected):
    monkeypatch.chdir(ROOT)
    assert expected in one_line(vdeploy(*arguments), 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fly",), "No such command 'fly'"),
        (("predict",), "Missing argument 'VIDEO...'"),
        (("predict", "a.mp4", "--speed", "9"), "No such option: --speed"),
        (("benchmark", "b", "--seconds", "-1"), "Invalid value for '--seconds'"),
        (("benchmark", "b", "--threads", "many"), "Invalid value for '--threads'"),
        (("serve", "b", "--backend", "magic"), "Invalid value for '--backend'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_call_is_code_2_with_the_usage(vdeploy, arguments, expected):
    done = vdeploy(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("Usage: ")
    assert expected in done.err


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a\nbug")


def fill_the_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/big.npy")


def test_a_full_disk_is_no_defect(vdeploy, monkeypatch):
    monkeypatch.setattr("vdeploy.dataset.validation.inspect_dataset", fill_the_disk)
    line = one_line(vdeploy("data", "scan", "."), 1)
    assert line == "runs/big.npy: No space left on device; free some space, or choose another place"


def test_a_defect_is_one_line_and_code_70(vdeploy, monkeypatch):
    monkeypatch.setattr("vdeploy.dataset.validation.inspect_dataset", fail)
    line = one_line(vdeploy("data", "scan", "."), 70)
    assert line == "internal error, ZeroDivisionError: a bug; add --debug for the traceback and report it"


def test_debug_shows_the_traceback():
    done = start("benchmark", "nowhere", "--debug")
    assert done.code == 1
    assert done.err.startswith("Traceback (most recent call last):")
    assert done.err.rstrip().splitlines()[-1].startswith("vdeploy.core.errors.BundleError: ")


@pytest.mark.parametrize("place", ["in front", "behind", "environment"])
def test_debug_works_wherever_it_stands(monkeypatch, place):
    arguments = {"in front": ["--debug", "benchmark", "nowhere"], "behind": ["benchmark", "nowhere", "--debug"]}
    monkeypatch.setattr(sys, "argv", ["vdeploy", *arguments.get(place, ["benchmark", "nowhere"])])
    if place == "environment":
        monkeypatch.setenv("VDEPLOY_DEBUG", "1")
    with pytest.raises(BundleError, match="nowhere is no bundle"):
        cli.main()


INTERRUPTIBLE = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from vdeploy.cli import main
    main()
"""


def test_ctrl_c_is_one_line_and_code_130_and_keeps_what_is_finished(tmp_path):
    clips = tmp_path / "clips"
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTIBLE), "data", "synth", str(clips), "--clips", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while not list(clips.rglob("*.mp4")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == ("error: interrupted; what was finished is kept, the same command resumes")
    assert "Traceback" not in err
    assert list(clips.rglob("*.mp4"))
    assert not [file for file in clips.rglob("*") if file.name.endswith(".tmp")]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_defect(bundle_dir, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vdeploy", "bundle", "verify", str(bundle_dir), "--json"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_predict_prints_a_table(vdeploy, bundle_dir, videos):
    done = vdeploy("predict", videos, "--bundle", bundle_dir)
    assert done.code == 0
    header, *rows = [line.split() for line in done.out.splitlines()]
    assert header == ["clip", "violent", "verdict", "remark"]
    assert [row[0] for row in rows] == [str(videos / name) for name in ("blue.mp4", "red.mp4", "text.mp4")]
    assert rows[2][1:] == ["-", "cannot", "be", "read", "is", "not", "a", "readable", "video"]
    for name, row in zip(("blue.mp4", "red.mp4"), rows, strict=False):
        frames = read_clip(videos / name, ClipSpec(frames=4, size=32)).frames
        probability = tiny_probabilities(frames[None])[0, 1]
        assert float(row[1]) == pytest.approx(probability, abs=1e-4)
        assert row[2] == ("violent" if probability >= 0.5 else "non-violent")


def test_predict_names_files_with_unknown_suffixes(vdeploy, bundle_dir, tmp_path, videos):
    shutil.copy(videos / "red.mp4", tmp_path / "red.mp4")
    (tmp_path / "cam.vid").touch()
    for options in ((), ("--window", "1")):
        done = vdeploy("predict", tmp_path, "--bundle", bundle_dir, "--json", *options)
        assert done.code == 0
        assert "1 file is left out:" in done.err
        assert "cam.vid has the suffix .vid, not one of a video" in done.err.replace("\n", "")
        left_out = json.loads(done.out)["left_out"]
        assert left_out == {str(tmp_path / "cam.vid"): "has the suffix .vid, not one of a video"}


def test_predict_prints_json_alone(vdeploy, bundle_dir, videos):
    done = vdeploy("predict", videos / "red.mp4", videos / "text.mp4", "--bundle", bundle_dir, "--json")
    assert done.code == 0
    values = json.loads(done.out)
    assert (values["classes"], values["threshold"]) == (["non-violent", "violent"], 0.5)
    red, text = values["predictions"]
    frames = read_clip(videos / "red.mp4", ClipSpec(frames=4, size=32)).frames
    assert red["path"] == str(videos / "red.mp4")
    assert red["probability"] == pytest.approx(tiny_probabilities(frames[None])[0, 1], abs=1e-5)
    assert red["violent"] is (red["probability"] >= 0.5)
    assert text == {
        "path": str(videos / "text.mp4"),
        "probability": None,
        "violent": None,
        "error": "is not a readable video",
        "warnings": [],
        "milliseconds": None,
    }


def test_predict_fails_when_no_video_can_be_read(vdeploy, bundle_dir, videos):
    done = vdeploy("predict", videos / "text.mp4", "--bundle", bundle_dir)
    assert done.code == 1
    assert "is not a readable video" in done.out
    assert "error:" not in done.err


def test_predict_names_broken_files_and_judges_the_others(vdeploy, bundle_dir, broken_clips_dir):
    done = vdeploy("predict", broken_clips_dir, "--bundle", bundle_dir, "--json")
    assert done.code == 0
    predictions = json.loads(done.out)["predictions"]
    failed = {item["path"]: item["error"] for item in predictions if item["error"]}
    assert sorted(failed) == [str(broken_clips_dir / name) for name in BROKEN]
    judged = {item["path"]: item for item in predictions if not item["error"]}
    assert len(judged) == 21
    assert all(0 <= item["probability"] <= 1 for item in judged.values())
    assert "a single frame" in judged[str(broken_clips_dir / "non_violent/single.mp4")]["warnings"][0]


def test_scan_names_broken_files_and_counts_the_others(vdeploy, broken_clips_dir):
    done = vdeploy("data", "scan", broken_clips_dir)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == f"{broken_clips_dir}: 21 clips; violent = violent, non-violent = non_violent"
    left_out = lines[lines.index("left out: 3") + 1 :][:3]
    assert [line.split(":")[0].strip() for line in left_out] == list(BROKEN)
    assert any(line.startswith("  non_violent/single.mp4: it holds a single frame") for line in lines)


def test_scan_writes_the_clips_that_can_be_used(vdeploy, broken_clips_dir, tmp_path):
    done = vdeploy("data", "scan", broken_clips_dir, "--csv", tmp_path / "clips.csv", "--json")
    assert json.loads(done.out)["clips"] == 21
    with (tmp_path / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    assert not {row["path"] for row in rows} & set(BROKEN)


@pytest.mark.parametrize("verb", [("data", "scan"), ("train", "--weights", "random")], ids=lambda verb: verb[0])
def test_strict_refuses_broken_files(vdeploy, broken_clips_dir, tmp_path, tiny_overrides, verb):
    options = [] if verb[0] == "data" else ["--out", tmp_path / "run", "--store", tmp_path, *settings(tiny_overrides)]
    done = vdeploy(*verb, broken_clips_dir, "--strict", *options)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: ")
    assert any(name in done.err.splitlines()[-1] for name in BROKEN)


def settings(overrides: tuple[str, ...]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


@pytest.mark.slow
def test_train_names_broken_files_and_trains_on_the_others(vdeploy, broken_clips_dir, tmp_path, tiny_overrides):
    run = tmp_path / "run"
    done = vdeploy(
        "train", broken_clips_dir, "--out", run, "--store", tmp_path / "s", *settings(tiny_overrides), "--json"
    )
    assert done.code == 0
    values = json.loads(done.out)
    assert values["run"] == str(run)
    assert sum(figures["clips"] for figures in values["metrics"].values()) == 21
    for name in BROKEN:
        assert f"left out: {name}: " in done.err
    assert "3 files left out, 21 clips used" in done.err
    assert Path(values["report"]).is_file()


@pytest.mark.slow
def test_benchmark_writes_what_it_prints(vdeploy, bundle_dir, tmp_path):
    out = tmp_path / "deep" / "result.json"
    done = vdeploy("benchmark", bundle_dir, *QUICK, "--format", "onnx-fp32", "--json", "--out", out)
    assert done.code == 0
    printed = json.loads(done.out)
    assert printed == json.loads(out.read_text())
    assert [(row["what"], row["name"]) for row in printed["rows"]] == [("pipeline", "onnx-fp32")]
    assert printed["command"].startswith(f"vdeploy benchmark {bundle_dir} --seconds 0")


@pytest.mark.slow
def test_benchmark_prints_a_table(vdeploy, bundle_dir):
    done = vdeploy("benchmark", bundle_dir, "--seconds", 0, "--what", "classifier", "--batch", "2,1")
    title, header, *rows = done.out.splitlines()
    assert title.startswith(f"{bundle_dir} on ")
    assert header.split()[:5] == ["what", "batch", "rank", "name", "precision"]
    assert [row.split()[:2] for row in rows] == [["classifier", "1"], ["classifier", "2"]]


def test_evaluate_prints_the_measures(vdeploy, bundle_dir, clips_dir):
    shown = vdeploy("evaluate", bundle_dir, clips_dir)
    values = json.loads(vdeploy("evaluate", bundle_dir, clips_dir, "--json").out)
    assert values["clips"] == len(values["probabilities"]) == 20
    title, *lines = shown.out.splitlines()
    assert title == f"{bundle_dir} on {clips_dir}, split all"
    rows = dict(line.rsplit(maxsplit=1) for line in lines)
    assert rows["accuracy"] == f"{values['accuracy']:.4f}"
    assert rows["clips"] == "20"


@pytest.mark.slow
def test_export_prints_what_was_proven(vdeploy, narrow_run, tmp_path):
    done = vdeploy("export", narrow_run.root, "--out", tmp_path / "bundle", "--store", tmp_path / "store", "--json")
    assert done.code == 0
    values = json.loads(done.out)
    assert values.pop("bundle") == str(tmp_path / "bundle")
    outcome = {key: values.pop(key) for key in ("made", "kept", "rejected", "left_out")}
    assert outcome == {"made": ["onnx-fp32"], "kept": [], "rejected": {}, "left_out": {}}
    assert values == json.loads((tmp_path / "bundle" / "bundle.json").read_text())


@pytest.mark.slow
def test_export_says_what_it_kept_and_what_it_rejected(vdeploy, narrow_run, narrow_bundle_dir, tmp_path, monkeypatch):
    strict = dataclasses.replace(FORMATS["onnx-fp32"], name="onnx-strict", tolerance=1e-12)
    monkeypatch.setitem(FORMATS, "onnx-strict", strict)
    monkeypatch.setitem(FORMATS, "onnx-other", dataclasses.replace(FORMATS["onnx-fp32"], name="onnx-other"))
    bundle, store = tmp_path / "bundle", ("--store", tmp_path / "store")
    shutil.copytree(narrow_bundle_dir, bundle)
    done = vdeploy("export", narrow_run.root, "--out", bundle, "--format", "onnx-strict,onnx-other", "--report", *store)
    assert done.code == 1
    lines = done.out.splitlines()
    assert "kept from the earlier bundle of this run: onnx-fp32" in lines
    (rejected,) = [line for line in lines if line.startswith("rejected: ")]
    assert rejected.startswith("rejected: onnx-strict: features differs from Keras")
    assert rejected.endswith(f"kept aside in {bundle}.rejected")
    assert (bundle / "report.html").is_file()
    shown = json.loads(vdeploy("bundle", "show", bundle, "--json").out)
    assert {artifact["format"] for artifact in shown["artifacts"]} == {"onnx-fp32", "onnx-other"}


def test_a_bundle_is_shown_verified_and_signed(vdeploy, tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle").root
    private, public = make_keys(tmp_path)
    header, *rows = vdeploy("bundle", "show", bundle).out.splitlines()[1:]
    assert header.split()[:3] == ["stage", "format", "found"]
    assert [row.split()[0] for row in rows] == ["extractor", "classifier"]
    assert vdeploy("bundle", "verify", bundle).out == f"{bundle}: 2 files are what was exported from tiny\n"
    assert "is not signed" in one_line(vdeploy("bundle", "verify", bundle, "--key", public), 1)
    assert vdeploy("bundle", "sign", bundle, "--key", private).code == 0
    assert "signed; the signer was not checked\nnext: vdeploy bundle verify " in vdeploy("bundle", "verify", bundle).out
    signer = json.loads(vdeploy("bundle", "verify", bundle, "--key", public, "--json").out)["signer"]
    assert vdeploy("bundle", "verify", bundle, "--key", public).out.splitlines()[1] == f"signed by the key {signer}"
    (bundle / "extractor" / "onnx-fp32" / "model.onnx").write_bytes(b"another")
    assert "is not the file that was exported" in one_line(vdeploy("bundle", "verify", bundle), 1)


@pytest.mark.slow
def test_features_are_extracted_once(vdeploy, clips_dir, tmp_path, tiny_overrides):
    arguments = ("features", clips_dir, "--store", tmp_path, *settings(tiny_overrides), "--json")
    first, second = (json.loads(vdeploy(*arguments).out) for _ in range(2))
    assert (first["clips"], first["from_store"], first["decoded"]) == (20, 0, 20)
    assert (second["clips"], second["from_store"], second["decoded"]) == (20, 20, 0)


def test_synth_names_its_clips(vdeploy, tmp_path):
    done = vdeploy("data", "synth", tmp_path / "clips", "--clips", 2, "--json")
    values = json.loads(done.out)
    assert [Path(path).is_file() for path in values["clips"]] == [True, True]
    assert values["seed"] == 0


def test_doctor_prints_a_table_and_json(vdeploy):
    findings = json.loads(vdeploy("doctor", "--json").out)
    header, *rows = vdeploy("doctor").out.splitlines()
    assert header.split() == ["part", "found", "enables", "to", "get", "it"]
    assert len(rows) >= len(findings)
    assert [row.split()[0] for row in rows if row.split()[0] in {"yes", "no"}] == [
        "yes" if finding["found"] else "no" for finding in findings
    ]
