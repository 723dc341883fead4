"""Engine files that are damaged, foreign or cannot be written, and builds that are cut off."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from testing.limits import largest_file
from vdeploy.artifacts.file_headers.tensorrt import parse_plan, read_plan
from vdeploy.core.errors import BundleError, ExportError
from vdeploy.core.files import sha256_of
from vdeploy.export.tensorrt import EngineOptions, build_engine, found_precision, read_report, report_file
from vdeploy.export.tensorrt.inspection import engine_types, precision_of_weights, refuse_other_weights
from vdeploy.inference.runtimes.tensorrt import TensorRTRuntime
from vdeploy.inference.runtimes.tensorrt_library import load_library

pytest.importorskip("tensorrt_rtx")

OPTIONS = EngineOptions(precision="fp16", target_sm=(89,))


def snapshot(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def engine(products, tmp_path):
    """An engine of an earlier day, with its papers and log, alone in its folder."""
    path = tmp_path / "engines" / "model.engine"
    build_engine(products["fp16"], path, OPTIONS)
    return path


@pytest.mark.parametrize("capability", load_library("tensorrt_rtx").capabilities)
def test_a_file_says_what_it_was_built_for(products, tmp_path, capability):
    path = tmp_path / "model.engine"
    build_engine(products["fp16"], path, EngineOptions(precision="fp16", target_sm=(capability,)))
    plan = read_plan(path)
    assert plan.capabilities == (capability,)
    assert plan.library == "tensorrt_rtx"
    assert plan.version_text == load_library("tensorrt_rtx").version


def test_a_file_of_tensorrt_says_its_version_and_nothing_else():
    head = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(100)
    plan = parse_plan(head, 1000)
    assert (plan.library, plan.version_text) == ("tensorrt", "10.13.3.9")
    assert (plan.capabilities, plan.weight_bytes) == ((), None)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "is damaged: it has"),
        (lambda data: data[:40], "is damaged: it has 40 bytes"),
        (lambda data: data + b"\0", "is damaged: it has"),
        (lambda data: data[:0], "is no TensorRT engine"),
        (lambda data: data[:10], "is no TensorRT engine"),
        (lambda data: b"onnx" + data[4:], "is no TensorRT engine"),
        (lambda data: data[:4] + b"\x07" + data[5:], "unknown layout"),
    ],
)
def test_a_damaged_engine_is_told(engine, damage, message):
    engine.write_bytes(damage(engine.read_bytes()))
    for read in (read_plan, read_report, found_precision):
        with pytest.raises(BundleError, match=rf"model\.engine .*{message}.*; build the engine again"):
            read(engine)


def test_a_missing_engine_is_told(tmp_path):
    with pytest.raises(BundleError, match=r"model\.engine cannot be read \(No such file"):
        read_plan(tmp_path / "model.engine")


def test_a_changed_engine_does_not_go_with_its_papers(engine):
    data = bytearray(engine.read_bytes())
    data[-1] ^= 1
    engine.write_bytes(data)
    with pytest.raises(ExportError, match="belongs to another engine"):
        found_precision(engine)


def test_an_engine_without_papers_is_told(engine):
    report_file(engine).unlink()
    with pytest.raises(ExportError, match=r"the papers of an engine, .*model\.engine\.json, cannot be read"):
        found_precision(engine)


def test_papers_that_are_none_are_told(engine):
    report_file(engine).write_text('{"library": "tensorrt_rtx"}')
    with pytest.raises(ExportError, match=r"holds no papers of an engine: version: Field required"):
        found_precision(engine)


def test_the_library_tells_an_engine_from_other_bytes(engine):
    library = load_library("tensorrt_rtx")
    assert engine_types(library, engine.read_bytes()) is None
    with pytest.raises(ExportError, match="what TensorRT built is no engine"):
        engine_types(library, bytes(1000))


def test_the_runtime_refuses_an_engine_of_another_version(engine):
    data = bytearray(engine.read_bytes())
    data[27] += 1
    engine.write_bytes(data)
    with pytest.raises(
        BundleError, match=r"model\.engine was built by tensorrt_rtx .* and runs on no other version; here"
    ):
        TensorRTRuntime(engine)


def test_the_runtime_refuses_an_engine_for_another_gpu(engine, monkeypatch):
    monkeypatch.setattr("vdeploy.inference.runtimes.tensorrt.Cuda", lambda **_: SimpleNamespace(capability=86))
    with pytest.raises(
        BundleError, match=r"was built for compute capability 8\.9; the GPU here has 8\.6; export again"
    ):
        TensorRTRuntime(engine)


def test_an_engine_that_is_fp32_inside_is_caught(products, tmp_path):
    wide, narrow = tmp_path / "wide.engine", tmp_path / "narrow.engine"
    build_engine(products["fp32"], wide, EngineOptions(precision="fp32", target_sm=(89,)))
    papers = build_engine(products["fp16"], narrow, OPTIONS)
    plan = read_plan(wide)
    with pytest.raises(ExportError, match=r"holds 0\.5 MB of weights, its network only 0\.3 MB in fp16: .* wider type"):
        refuse_other_weights(plan, papers.layers)
    assert precision_of_weights(plan, papers.layers) == "fp32"
    papers = papers.model_copy(update={"sha256": sha256_of(wide)})
    report_file(wide).write_text(papers.model_dump_json())
    assert found_precision(wide) == "fp32"


def test_an_engine_without_its_weights_is_caught(products, tmp_path):
    small, large = tmp_path / "small.engine", tmp_path / "large.engine"
    build_engine(products["int8"], small, EngineOptions(precision="int8", target_sm=(89,)))
    papers = build_engine(products["fp32"], large, EngineOptions(precision="fp32", target_sm=(89,)))
    with pytest.raises(ExportError, match="some are missing"):
        refuse_other_weights(read_plan(small), papers.layers)


def test_a_full_disk_leaves_the_older_engine(networks, engine):
    before = snapshot(engine.parent)
    with largest_file(1 << 18), pytest.raises(ExportError) as caught:
        build_engine(networks["classifier-fp16"], engine, OPTIONS)
    line = str(caught.value)
    assert line.startswith(f"cannot write the engine {engine} (File too large)")
    assert "an earlier engine is intact" in line
    assert snapshot(engine.parent) == before


@pytest.mark.parametrize("parent", ["/proc", "file"])
def test_a_target_that_cannot_be_written_is_named(products, tmp_path, parent):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot write the engine .*/sub/model\.engine \("):
        build_engine(products["fp16"], tmp_path / parent / "sub" / "model.engine", OPTIONS)


def test_papers_that_cannot_be_written_leave_no_engine_without_them(products, tmp_path):
    engine = tmp_path / "model.engine"
    report_file(engine).mkdir()
    with pytest.raises(ExportError, match="cannot write the engine"):
        build_engine(products["fp16"], engine, OPTIONS)
    assert not engine.exists()


def test_a_failed_build_leaves_the_older_engine(products, engine):
    before = snapshot(engine.parent)
    with pytest.raises(ExportError, match="asked for int8"):
        build_engine(products["fp16"], engine, EngineOptions(precision="int8"))
    assert snapshot(engine.parent) == before


def test_ctrl_c_ends_a_build_and_leaves_the_older_engine(networks, engine, monkeypatch):
    class Interrupting:
        """Once: Python might take a second signal only when the build has ended, and end the tests."""

        pressed = False

        def advance(self, count=1, **_):
            if count and not self.pressed:
                self.pressed = True
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("vdeploy.export.tensorrt.builder.track", lambda *_: contextlib.nullcontext(Interrupting()))
    before, handler = snapshot(engine.parent), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_engine(networks["classifier-fp16"], engine, OPTIONS)
    assert snapshot(engine.parent) == before
    assert signal.getsignal(signal.SIGINT) is handler


KILLED = """
    import contextlib, os, signal, sys
    from pathlib import Path
    from vdeploy.export.tensorrt import EngineOptions, build_engine, builder

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    class Deadly:
        advance = die

    if sys.argv[3] == "build":
        builder.track = lambda *_: contextlib.nullcontext(Deadly())
    else:
        os.fsync = die
    build_engine(Path(sys.argv[1]), Path(sys.argv[2]), EngineOptions(precision="fp32", target_sm=(89,)))
"""


@pytest.mark.parametrize("moment", ["build", "write"])
def test_a_killed_build_leaves_the_older_engine_and_the_next_one_tidies_up(products, engine, moment):
    before = snapshot(engine.parent)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(products["fp32"]), str(engine), moment]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {name: snapshot(engine.parent)[name] for name in before} == before
    leftovers = set(snapshot(engine.parent)) - set(before)
    assert bool(leftovers) == (moment == "write")
    assert all(name.startswith(".") and name.endswith(".tmp") for name in leftovers)
    build_engine(products["fp16"], engine, OPTIONS)
    assert found_precision(engine) == "fp16"
    assert set(snapshot(engine.parent)) == set(before)
