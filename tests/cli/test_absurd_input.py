"""Paths, documents, numbers and arrays that no one would give on purpose: one line each, and never exit code 70."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle
from tests.conftest import Done
from training.engine.checkpoints import Checkpoint
from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.cli.options import print_line, print_table
from vdeploy.core.errors import BundleError
from vdeploy.core.progress import say
from vdeploy.features.store import FeatureKey, FeatureStore

LONG_NAME = "a" * 300
LONG_PATH = "/".join(["b" * 200] * 30)
NESTED = "[" * 100_000 + "]" * 100_000
MANY_DIGITS = "1" + "0" * 5000


def last_line(done: Done) -> str:
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.endswith("\n")
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("path", [LONG_NAME, LONG_PATH], ids=["name", "path"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("bundle", "show"),
        ("benchmark",),
        ("data", "scan"),
        ("evaluate", "."),
        ("export",),
        ("inspect",),
        ("mine", "bundle", "--out", "mined"),
        ("predict", "--bundle", "b"),
        ("serve",),
        ("train", "."),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_overlong_path_is_shortened_in_the_line(vdeploy, arguments: tuple[str, ...], path: str) -> None:
    option = ("--recipe",) if arguments[0] == "train" else ()
    line = last_line(vdeploy(*arguments, *option, path))
    assert line.endswith("File name too long; give a shorter path") or "no finished run" in line
    assert len(line) < 300


def test_a_csv_with_a_nul_in_a_path_names_the_clip(vdeploy, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\na\0b.mp4,violent\nc.mp4,non-violent\n")
    said = last_line(vdeploy("data", "scan", "clips.csv"))
    # The csv module of Python 3.10 takes no NUL at all.
    assert "a\\x00b.mp4, does not exist" in said or "clips.csv is not a well-formed CSV (line contains NUL)" in said


def test_a_recipe_that_is_no_text_is_refused(vdeploy, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\x93NUMPY")
    assert last_line(vdeploy("train", "clips", "--recipe", "recipe.toml")).startswith("recipe.toml is not valid TOML")


def test_a_path_with_a_nul_is_no_defect(vdeploy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        Path("a\0b").read_bytes()

    monkeypatch.setattr("vdeploy.dataset.validation.inspect_dataset", fail)
    assert last_line(vdeploy("data", "scan", ".")) == ("a path holds a NUL character; remove it")


@pytest.mark.parametrize("error", [MemoryError(), type("ResourceExhaustedError", (Exception,), {})("a\nb")])
def test_too_little_memory_is_no_defect(vdeploy, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vdeploy.dataset.validation.inspect_dataset", fail)
    assert last_line(vdeploy("data", "scan", ".")).startswith("out of memory")


@pytest.mark.parametrize(
    ("file", "arguments", "expected"),
    [
        ("bundle/bundle.json", ("bundle", "show", "bundle"), "bundle/bundle.json"),
        ("run/run.json", ("export", "run"), "nested too deeply|run is damaged"),
        ("result.json", ("benchmark", "page", "result.json"), "result.json is no JSON"),
        ("recipe.toml", ("train", ".", "--recipe", "recipe.toml"), "recipe.toml is not valid TOML"),
    ],
)
def test_a_deeply_nested_document_is_refused(
    vdeploy, tmp_path: Path, file: str, arguments: tuple[str, ...], expected: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(f"a = {NESTED}" if file.endswith(".toml") else NESTED)
    line = last_line(vdeploy(*arguments))
    assert any(part in line for part in expected.split("|")), line


@pytest.mark.parametrize(
    "assignment",
    [
        f"training.epochs={10**30}",
        f"training.epochs={MANY_DIGITS}",
        "training.epochs=1e400",
        f"training.batch={10**30}",
        f"training.patience={10**30}",
        "training.memory_limit_gb=inf",
        f"clip.size={10**30}",
        f"clip.frames={10**30}",
        "optimizer.warmup_epochs=inf",
        "optimizer.weight_decay=inf",
        "loss.alpha=[1e300, 1e-300]",
        "decision.cost_miss=inf",
        f"training.seed={NESTED}",
    ],
    ids=lambda assignment: assignment[:32],
)
def test_absurd_settings_are_refused_before_anything_is_read(vdeploy, tmp_path: Path, assignment: str) -> None:
    assert last_line(vdeploy("train", "clips", "--set", assignment))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("data", "synth", "clips", "--clips", 10**30), 1),
        (("data", "synth", "clips", "--seed", 10**400), 1),
        (("ablate", "clips", "--seeds", 10**30), 2),
        (("tune", "clips", "--trials", 10**30), 2),
        (("lr-find", "clips", "--steps", 10**30), 2),
        (("predict", "clips", "--window", "1e300"), 2),
        (("predict", "clips", "--window", "1", "--stride", "1e308"), 2),
        (("predict", "clips", "--min-duration", "inf"), 2),
        (("predict", "clips", "--merge-gap", "nan"), 2),
    ],
    ids=lambda value: str(value)[:30],
)
def test_absurd_counts_are_refused(vdeploy, tmp_path: Path, arguments: tuple[object, ...], code: int) -> None:
    done = vdeploy(*arguments)
    assert done.code == code
    assert "internal error" not in done.err
    assert list(tmp_path.iterdir()) == []


def huge_array() -> bytes:
    """The header of an array of 8 TiB, without its content."""
    buffer = io.BytesIO()
    header = {"descr": "<f2", "fortran_order": False, "shape": (1 << 37, 4, 8)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def test_golden_clips_that_declare_terabytes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "golden.npz"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("frames", "probabilities", "source", "tolerance"):
            archive.writestr(f"{name}.npy", huge_array())
    with pytest.raises(BundleError, match="cannot be read as golden clips"):
        GoldenClips.load(file)


def test_a_checkpoint_that_declares_terabytes_is_damaged() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("header.npy", huge_array())
    with pytest.raises(ValueError, match=r"damaged checkpoint|reading array data|EOF"):
        Checkpoint.from_bytes(buffer.getvalue())


def test_a_shard_that_declares_terabytes_is_extracted_again(tmp_path: Path) -> None:
    key = FeatureKey(spec_digest="a" * 64, layer="avg", weights_sha256="b" * 64, shape=(4, 8))
    store = FeatureStore(tmp_path, key)
    store.append({"c" * 64: np.zeros((4, 8), np.float32)})
    (shard,) = store.folder.glob("*.npy")
    shard.write_bytes(huge_array())
    description = {"clips": ["c" * 64], "bytes": len(huge_array()), "crc32": zlib.crc32(huge_array())}
    shard.with_suffix(".json").write_text(json.dumps(description))
    assert len(FeatureStore(tmp_path, key)) == 0


def test_control_characters_are_escaped_wherever_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2Jb\x9b\nforged line"
    print_line(f"class {name}")
    print_table(("clip", name), [(name, name)], title=name)
    say(name)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert "a\\x1b[2Jb\\x9b\\nforged line" in text
        assert not [line for line in text.splitlines() if line.startswith("forged")]


def test_a_class_with_control_characters_is_scanned_and_escaped(vdeploy, tmp_path: Path) -> None:
    for label in ("calm\x1b[31m", "violence"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        (tmp_path / "clips" / label / "a\x1b[2J.mp4").write_bytes(label.encode())
    done = vdeploy("data", "scan", "clips")
    assert "\x1b" not in done.out + done.err
    assert "\\x1b[31m" in done.out + done.err


def test_a_bundle_in_a_folder_with_control_characters(vdeploy, tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "b\x1b[2J")
    done = vdeploy("bundle", "verify", "b\x1b[2J")
    assert done.code == 0
    assert "\x1b" not in done.out
