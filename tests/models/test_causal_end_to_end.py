"""A causal temporal shift through the verbs: one stream has the same scores whatever computes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from testing.videos import solid_frame, write_video
from testing.watched_files import probabilities, watched
from tests.triton.conftest import own_ports
from training.pipeline import train
from training.recipe import load_recipe
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.benchmark.tuning.arrivals import poisson_arrivals
from vdeploy.benchmark.tuning.senders import CAMERAS, refuse_load
from vdeploy.benchmark.tuning.trial_server import open_trial_server
from vdeploy.core.errors import CrowdedError, RepositoryError
from vdeploy.detector import detect
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.inference.causal import Stepper
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.in_process import LocalScorer
from vdeploy.live.server_windows import ServerWindows
from vdeploy.timeline.events import Window
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.sliding import Sample, SlidingDetector
from vdeploy.timeline.windows import WindowPlan
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.client.stream_client import StreamClient
from vdeploy.triton.deployment.deploy import deploy, rollback
from vdeploy.triton.deployment.status import read_status
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.plans import plan_deployment
from vdeploy.triton.planning.server_facts import find_target
from vdeploy.triton.planning.tuned_serving import Configuration
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FRAMES, SAMPLED = 8, 20
LENGTHS = {"window_s": 8.0, "stride_s": 3.0}
"""A sampled frame a second, and a window every three of them."""

RECIPE = (
    "training.epochs=2",
    "training.batch=8",
    "backbone.weights=random",
    "clip.size=32",
    f"clip.frames={FRAMES}",
    "head.name=gru",
    "head.units=8",
    "fine_tune.blocks=5",
    "fine_tune.temporal_shift=past",
)


@pytest.fixture(scope="module")
def bundle(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("causal")
    run = train(clips_dir, folder / "run", load_recipe("edge", RECIPE), store_root=folder / "store")
    options = ExportOptions(store_root=folder / "store")
    return export_run(run, parse_formats("onnx-fp32,openvino-fp32"), folder / "bundle", options=options).bundle


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture for each sampled frame, so that it does not matter when exactly a frame of a live source arrives."""
    pictures = [solid_frame((160 * number % 256, 90 * number % 256, 40)) for number in range(SAMPLED)]
    file = tmp_path_factory.mktemp("video") / "pictures.mp4"
    return write_video(file, [frame for frame in pictures for _ in range(24)], fps=24)


@pytest.fixture(scope="module")
def windows(bundle: Bundle, video: Path) -> tuple[Window, ...]:
    """The windows of the video, computed frame by frame."""
    return detect(video, LocalScorer(bundle, "onnx-fp32"), **LENGTHS).windows


def assert_same(found: Sequence[Window], expected: Sequence[Window]) -> None:
    """Neighbours differ by 5e-5 and more, and so would windows that were scored one by one."""
    assert [window.start_s for window in found] == [window.start_s for window in expected]
    known = probabilities(expected)
    assert len(known) > 4
    assert np.abs(np.diff(known)).min() > 5e-5
    np.testing.assert_allclose(probabilities(found), known, rtol=0, atol=1e-5)


def test_the_manifest_lists_the_streaming_form(bundle: Bundle) -> None:
    assert bundle.manifest.past_frames == 3
    artifact = bundle.artifact("stream", "onnx-fp32")
    assert [tensor.name for tensor in (*artifact.inputs, *artifact.outputs)] == [
        "frames",
        "buffer",
        "features",
        "next_buffer",
    ]
    assert artifact.parity.max_rel < 1e-4
    assert [one.stage for one in bundle.manifest.artifacts if one.format == "openvino-fp32"] == [
        "extractor",
        "classifier",
    ]


def test_a_timeline_computes_each_frame_once(
    bundle: Bundle, video: Path, windows: tuple[Window, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped, step = [], Stepper.step

    def counted(
        self: Stepper, frames: npt.NDArray[np.uint8], buffer: npt.NDArray[np.float32] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        stepped.append(len(frames))
        return step(self, frames, buffer)

    monkeypatch.setattr(Stepper, "step", counted)
    scorer = LocalScorer(bundle, "onnx-fp32")
    monkeypatch.setattr(scorer, "extract", None)
    assert_same(detect(video, scorer, **LENGTHS).windows, windows)
    assert sum(stepped) == SAMPLED < len(windows) * FRAMES


def test_a_watched_file_has_the_scores_of_its_timeline(
    bundle: Bundle, video: Path, windows: tuple[Window, ...]
) -> None:
    assert_same(watched(video, bundle.root, windows, **LENGTHS), windows)


def test_a_format_without_a_streaming_form_has_the_same_scores(
    bundle: Bundle, video: Path, windows: tuple[Window, ...]
) -> None:
    scorer = LocalScorer(bundle, "openvino-fp32")
    assert scorer.causal is not None
    assert scorer.causal.stepper is None
    assert_same(detect(video, scorer, **LENGTHS).windows, windows)


@pytest.mark.triton
def test_triton_has_the_same_scores(
    bundle: Bundle, video: Path, windows: tuple[Window, ...], install: TritonInstall, tmp_path: Path
) -> None:
    repository = write_repository(bundle, tmp_path / "repository", backend="auto", install=install)
    ports = own_ports().as_arguments()
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **ports) as server,
        TritonScorer(server.url) as scorer,
    ):
        assert_same(detect(video, scorer, **LENGTHS).windows, windows)


@pytest.fixture(scope="module")
def streaming(
    bundle: Bundle, install: TritonInstall, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TritonServer, Repository]]:
    """A server that keeps two streams."""
    folder = tmp_path_factory.mktemp("streaming")
    options = ServingOptions(streams=StreamOptions(2))
    repository = write_repository(bundle, folder / "repository", options=options)
    ports = own_ports().as_arguments()
    with TritonServer(repository, install=install, log_file=folder / "log", **ports) as server:
        yield server, repository


@pytest.mark.triton
def test_windows_that_the_server_keeps_have_the_same_scores(
    streaming: tuple[TritonServer, Repository], video: Path, windows: tuple[Window, ...]
) -> None:
    with StreamClient(streaming[0].url) as client:
        plan = WindowPlan.for_scorer(client, LENGTHS["window_s"], LENGTHS["stride_s"])
        kept: ServerWindows[str] = ServerWindows(client, plan)
        found = []
        for index, frame in VideoSampler(video, plan, client.spec.size):
            found += kept.feed([Sample("", index, frame)])
        found += kept.finish("", windows[-1].end_s)
    assert_same(tuple(scored.window for scored in found), windows)


@pytest.mark.triton
def test_a_load_of_streams_is_measured_as_tune_serving_does(bundle: Bundle, install: TritonInstall) -> None:
    refuse_load("streams", bundle)
    configuration = Configuration("python", "onnx-fp32", "onnx-fp32", 1, 2, 1, None)
    where = Surroundings(find_target(install), install, cores=2)
    with open_trial_server(bundle, configuration, where, "streams") as server:
        load = server.load(20, poisson_arrivals(), requests=CAMERAS, slo_ms=60_000, part=0)
    assert load.error == ""
    assert np.isfinite(load.latencies_ms).all()


@pytest.mark.triton
def test_a_server_that_loses_a_stream_goes_on_with_the_same_scores(
    streaming: tuple[TritonServer, Repository], bundle: Bundle
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3 * FRAMES, 32, 32, 3), dtype=np.uint8)
    whole, lost = [], []
    with StreamClient(streaming[0].url) as client, client.open() as steady, client.open() as shaken:
        for number, frame in enumerate(frames):
            if number in {2, 13, 20}:
                shaken._end()
            whole.append(steady.push(frame).probability)
            lost.append(shaken.push(frame).probability)
        assert (steady.restarts, shaken.restarts) == (0, 3)
        with pytest.raises(CrowdedError), client.open() as third:
            third.push(frames[0])
    np.testing.assert_allclose(lost, whole, atol=1e-6)
    # The past before a window counts: it is not that of a clip by itself.
    alone = LocalScorer(bundle, "onnx-fp32").score(frames[np.newaxis, -FRAMES:])[0, 1]
    assert abs(whole[-1] - alone) > 1e-5


@pytest.mark.triton
def test_a_stream_goes_on_over_a_deployment_and_back(
    streaming: tuple[TritonServer, Repository], bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(bundle.root, tmp_path / "other")
    values = json.loads((tmp_path / "other" / MANIFEST).read_text())
    (tmp_path / "other" / MANIFEST).write_text(json.dumps(values | {"threshold": 0.25}))
    other, (server, repository) = Bundle(tmp_path / "other"), streaming
    golden = golden_clips_of(other, "onnx-fp32", "onnx-fp32")
    frames = np.random.default_rng(1).integers(0, 256, (3 * FRAMES, 32, 32, 3), dtype=np.uint8)
    scorer = LocalScorer(bundle, "onnx-fp32")
    detector: SlidingDetector[str] = SlidingDetector(scorer, WindowPlan(FRAMES, 8.0, 1))
    found = detector.feed([Sample("", number, frame) for number, frame in enumerate(frames)])
    expected = [one.window.probability for one in found]
    scores, versions = [], []
    with (
        StreamClient(server.url) as client,
        client.open() as stream,
        ModelControl(server.url, log_file=server.log_file) as control,
    ):
        for number, frame in enumerate(frames):
            if number == 10:
                plan = plan_deployment(other, repository.root)
                assert deploy(plan, control, repository.root, golden).version == 2
            if number == 18:
                assert rollback(control, repository.root).version == 1
                status = read_status(control, repository.root)
                assert status.healthy, status.problem
            score = stream.push(frame)
            versions.append(score.version)
            scores += [score.probability] if score.is_full else []
        assert stream.restarts == 2
    assert versions == [1] * 10 + [2] * 8 + [1] * 6
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_streams_of_a_bundle_without_the_streaming_form_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.root, tmp_path / "without")
    shutil.rmtree(tmp_path / "without" / "stream")
    file = tmp_path / "without" / MANIFEST
    values = json.loads(file.read_text())
    values["artifacts"] = [artifact for artifact in values["artifacts"] if artifact["stage"] != "stream"]
    file.write_text(json.dumps(values))
    options = ServingOptions(streams=StreamOptions(2))
    with pytest.raises(RepositoryError, match="need its streaming form, which the bundle lacks; add it by vdeploy"):
        write_repository(Bundle(tmp_path / "without"), tmp_path / "repository", options=options)
    assert not (tmp_path / "repository").exists()
