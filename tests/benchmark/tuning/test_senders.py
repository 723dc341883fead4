"""Clips, frames and streams as a load sends them to a real Triton, and the rate that a running server holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from testing.tiny_bundle import make_tiny_bundle
from tests.triton.conftest import own_ports
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.served.statistics import read_counts
from vdeploy.benchmark.tuning import trial_server
from vdeploy.benchmark.tuning.arrivals import poisson_arrivals
from vdeploy.benchmark.tuning.open_loop import run_load
from vdeploy.benchmark.tuning.senders import CAMERAS, open_sender, refuse_load, requests_per_clip
from vdeploy.benchmark.tuning.tune import TuningRequest, measure_server
from vdeploy.core.errors import BenchmarkError, ClientError
from vdeploy.triton.names import CLASSIFIER_MODEL, EXTRACTOR_MODEL, WINDOW_MODEL
from vdeploy.triton.planning.tuned_serving import LoadKind
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

MODELS = {"extractor": EXTRACTOR_MODEL, "classifier": CLASSIFIER_MODEL, "window": WINDOW_MODEL}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def url(bundle: Bundle, install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    repository = write_repository(bundle, folder / "repo", options=ServingOptions(streams=StreamOptions(CAMERAS)))
    ports = own_ports().as_arguments()
    with TritonServer(repository, install=install, log_file=folder / "log", **ports) as server:
        yield server.url


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.parametrize(
    ("kind", "classified", "kept"), [("clips", (1, 1), 0), ("frames", (0.4, 0.6), 0), ("streams", (1, 1), 1)]
)
def test_each_load_asks_the_models_that_a_client_asks(
    bundle: Bundle, url: str, kind: LoadKind, classified: tuple[float, float], kept: int
) -> None:
    """The windows of frames that a client keeps are two frames apart. An address may name its scheme."""
    count = 4 * CAMERAS
    with open_sender(f"grpc://{url}", bundle, kind) as send, triton.InferenceServerClient(url) as client:
        before = read_counts(client, MODELS)
        load = run_load(send, poisson_arrivals().times(200, count), 200, 60_000)
        after = read_counts(client, MODELS)
    assert load.error == ""
    assert np.isfinite(load.latencies_ms).all()
    asked = {name: after[name]["requests"] - before[name]["requests"] for name in MODELS}
    assert asked["extractor"] == count
    assert classified[0] * count <= asked["classifier"] <= classified[1] * count
    assert asked["window"] == kept * count


@pytest.mark.slow
@pytest.mark.triton
def test_a_running_server_is_measured_as_it_is(bundle: Bundle, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trial_server.LEAST_SECONDS, "frames", 0.2)
    request = TuningRequest(1500.0, poisson_arrivals(), requests=40, load="frames")
    held = measure_server(bundle, request, url).held
    assert held.low is not None
    assert held.high is not None
    assert 0 < held.low <= held.clips_per_s <= held.high
    assert held.cpu_s_per_clip is None
    with pytest.raises(BenchmarkError, match="at no rate"):
        measure_server(bundle, TuningRequest(1e-3, poisson_arrivals(), requests=40), url)


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_without_room_for_the_streams(bundle: Bundle, install: TritonInstall, tmp_path: Path) -> None:
    repository = write_repository(bundle, tmp_path / "repo", options=ServingOptions(streams=StreamOptions(2)))
    with (
        TritonServer(repository, install=install, log_file=tmp_path / "log", **own_ports().as_arguments()) as server,
        pytest.raises(ClientError, match=f"keeps 2 streams, and the load is of {CAMERAS}; serve with --streams"),
        open_sender(server.url, bundle, "streams"),
    ):
        pass


@pytest.mark.parametrize("kind", ["frames", "streams"])
def test_a_backbone_that_looks_at_whole_clips_is_sent_clips(bundle: Bundle, kind: LoadKind) -> None:
    extractor, classifier = bundle.manifest.stages
    stages = (extractor.model_copy(update={"granularity": "clip"}), classifier)
    whole = Bundle(bundle.root)
    whole.manifest = bundle.manifest.model_copy(update={"stages": stages})
    refuse_load("clips", whole)
    with pytest.raises(BenchmarkError, match=r"looks at the frames of a clip together.*leave --load out$"):
        refuse_load(kind, whole)


def test_a_causal_backbone_is_sent_streams_where_the_bundle_holds_their_form(bundle: Bundle) -> None:
    extractor, classifier = bundle.manifest.stages
    form = bundle.manifest.artifacts[0].model_copy(update={"stage": "stream"})
    causal = Bundle(bundle.root)
    causal.manifest = bundle.manifest.model_copy(
        update={
            "stages": (extractor.model_copy(update={"granularity": "clip"}), classifier),
            "artifacts": (*bundle.manifest.artifacts, form),
        }
    )
    refuse_load("streams", causal)
    with pytest.raises(BenchmarkError, match=r"sent as whole clips; leave --load out, or try --load streams$"):
        refuse_load("frames", causal)


def test_frames_are_that_part_of_a_clip_which_they_are(bundle: Bundle) -> None:
    assert [requests_per_clip(kind, bundle) for kind in ("clips", "frames", "streams")] == [1, 4, 4]
