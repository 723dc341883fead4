from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from testing.tiny_bundle import tiny_probabilities
from testing.videos import write_numbered
from testing.waiting import eventually
from tests.triton.conftest import Ports, kill_stub
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ClientError
from vdeploy.detector import detect
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.scorer import Scorer
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.names import ENSEMBLE_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer
from vdeploy.video.clips import ClipSpec


def clips(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 32, 32, 3), dtype=np.uint8)


@pytest.mark.triton
class TestAgainstAServer:
    @pytest.fixture
    def scorer(self, server: TritonServer) -> Iterator[TritonScorer]:
        with TritonScorer(server.url) as scorer:
            yield scorer

    def test_it_reads_what_it_must_know_from_the_server(self, scorer: TritonScorer) -> None:
        as_any_scorer: Scorer = scorer
        assert as_any_scorer.spec == ClipSpec(frames=4, size=32)
        assert as_any_scorer.classes == ("non-violent", "violent")
        assert as_any_scorer.threshold == 0.5
        assert (scorer.temperature, scorer.bias, scorer.run, scorer.max_batch_size) == (1.0, 0.0, "tiny", 8)
        assert len(scorer.bundle_digest) == 64

    @pytest.mark.parametrize("count", [1, 8, 9, 20])
    def test_scores_are_the_bundles(self, scorer: TritonScorer, count: int) -> None:
        frames = clips(count, seed=count)
        scores = scorer.score(frames)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, tiny_probabilities(frames), rtol=0, atol=1e-6)
        assert len({tuple(row) for row in scores.tolist()}) == count

    def test_the_two_stages_one_by_one(self, scorer: TritonScorer, bundle: Bundle) -> None:
        local = LocalScorer(bundle)
        frames = clips(9)
        features = scorer.extract(frames)
        np.testing.assert_allclose(features, local.extract(frames), rtol=0, atol=1e-5)
        np.testing.assert_allclose(scorer.classify(features), tiny_probabilities(frames), rtol=0, atol=1e-6)
        few = scorer.extract(frames[:2, :3])
        np.testing.assert_allclose(few, features[:2, :3], rtol=0, atol=1e-6)

    def test_a_timeline_is_the_same_as_in_this_process(
        self, scorer: TritonScorer, bundle: Bundle, tmp_path: Path
    ) -> None:
        video = write_numbered(tmp_path / "v.mp4", 300)
        served, local = (detect(video, one, stride_s=0.5) for one in (scorer, LocalScorer(bundle)))
        assert len(served.windows) == 21
        for one, other in zip(served.windows, local.windows, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-5)

    def test_stages_of_a_version_that_is_gone_are_refused(self, scorer: TritonScorer) -> None:
        scorer._versions = {EXTRACTOR_MODEL: "7"}
        with pytest.raises(ClientError, match=f"does not serve the model {EXTRACTOR_MODEL}.*7"):
            scorer.extract(clips(1))

    def test_no_clips_no_scores(self, scorer: TritonScorer) -> None:
        assert scorer.score(clips(0)).shape == (0, 2)

    def test_frames_need_not_be_contiguous(self, scorer: TritonScorer) -> None:
        flipped = clips(2)[:, :, :, ::-1]
        np.testing.assert_allclose(scorer.score(flipped), tiny_probabilities(flipped), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        "frames",
        [
            np.zeros((1, 4, 32, 32, 3), np.float32),
            np.zeros((1, 16, 32, 32, 3), np.uint8),
            np.zeros((4, 32, 32, 3), np.uint8),
        ],
    )
    def test_other_frames_are_refused_before_they_are_sent(self, scorer: TritonScorer, frames: np.ndarray) -> None:
        with pytest.raises(ClientError, match=r"takes uint8\[B, 4, 32, 32, 3\]; decode the video"):
            scorer.score(frames)

    def test_too_little_time(self, server: TritonServer) -> None:
        with TritonScorer(server.url) as scorer:
            scorer._timeout = 1e-4
            with pytest.raises(ClientError, match=r"did not answer within 0\.0001 s; allow more time"):
                scorer.score(clips(8))

    def test_labels_are_served(self, server: TritonServer) -> None:
        tensor = triton.InferInput("frames", [1, 4, 32, 32, 3], "UINT8")
        tensor.set_data_from_numpy(clips(1))
        with triton.InferenceServerClient(server.url) as client:
            output = triton.InferRequestedOutput("probabilities", class_count=2)
            ranked = client.infer(ENSEMBLE_MODEL, [tensor], outputs=[output]).as_numpy("probabilities")
        assert {entry.decode().split(":")[2] for entry in ranked.ravel()} == {"non-violent", "violent"}


class TestWrongServers:
    def test_nothing_listens(self, ports: Ports) -> None:
        with pytest.raises(ClientError, match=f"no Triton answers at 127.0.0.1:{ports.grpc}; start a server there"):
            TritonScorer(f"127.0.0.1:{ports.grpc}")

    def test_a_host_that_does_not_exist(self) -> None:
        with pytest.raises(ClientError, match=r"no Triton answers at nowhere.invalid:8001"):
            TritonScorer("nowhere.invalid", timeout_seconds=5)

    def test_something_else_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(ClientError, match=f"{address} did not answer within 1 s"):
                TritonScorer(address, timeout_seconds=1)

    @pytest.mark.triton
    def test_the_http_port(self, server: TritonServer) -> None:
        http = server.url.rsplit(":", 1)[0] + f":{server.http_port}"
        with pytest.raises(ClientError, match=r"speaks HTTP, not gRPC; give Triton's gRPC port, 8001"):
            TritonScorer(http)


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_in_trouble(repository: Repository, install: TritonInstall, ports: Ports) -> None:
    log = repository.root / "log"
    frames = clips(1)
    config = repository.root / EXTRACTOR_MODEL / "config.pbtxt"
    text = config.read_text()
    config.write_text(
        text.replace("dynamic_batching {", "dynamic_batching { default_queue_policy { max_queue_size: 2 }")
    )
    with (
        TritonServer(repository, install=install, log_file=log, **ports.as_arguments()) as server,
        TritonScorer(server.url) as scorer,
        triton.InferenceServerClient(server.url) as admin,
        ModelControl(server.url) as control,
    ):
        kill_stub(repository, EXTRACTOR_MODEL, signal.SIGSTOP)
        tensor = triton.InferInput("frames", frames.shape, "UINT8")
        tensor.set_data_from_numpy(frames)
        for _ in range(4):  # the first requests go on to the stage, which stands still; later ones wait in its queue
            for _ in range(5):
                admin.async_infer(ENSEMBLE_MODEL, [tensor], lambda **_: None)
            time.sleep(0.03)
        with pytest.raises(ClientError, match="is overloaded, its queue is full; send less"):
            scorer.score(frames)
        kill_stub(repository, EXTRACTOR_MODEL, signal.SIGCONT)
        assert eventually(lambda: answers(scorer, frames))
        kill_stub(repository, EXTRACTOR_MODEL)
        with pytest.raises(ClientError, match=r"could not answer: .*is not healthy.*look at the server's log"):
            scorer.score(frames)
        control.unload(ENSEMBLE_MODEL)
        with pytest.raises(ClientError, match=f"does not serve the model {ENSEMBLE_MODEL}"):
            scorer.score(frames)
        with pytest.raises(ClientError, match=rf"does not serve the model {ENSEMBLE_MODEL}.*vdeploy serve BUNDLE"):
            TritonScorer(server.url)


@pytest.mark.slow
@pytest.mark.triton
def test_a_violence_detector_of_somebody_else(repository: Repository, install: TritonInstall, ports: Ports) -> None:
    config = repository.root / ENSEMBLE_MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace('key: "clip"', 'key: "klip"'))
    log = repository.root / "log"
    with (
        TritonServer(repository, install=install, log_file=log, **ports.as_arguments()) as server,
        pytest.raises(ClientError, match=r"that vdeploy did not write .*clip"),
    ):
        TritonScorer(server.url)


def test_a_client_needs_neither_pydantic_nor_rich_nor_a_runtime() -> None:
    script = (
        "import sys\n"
        "for name in ('pydantic', 'rich', 'typer', 'onnxruntime', 'onnx', 'tensorflow'): sys.modules[name] = None\n"
        "import vdeploy.triton.client.client, vdeploy.inference.scorer\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("triton", "triton:8001"),
        ("triton:9001", "triton:9001"),
        ("grpc://triton:9001/", "triton:9001"),
        ("http://triton", "triton:8001"),
        ("[::1]:9001", "[::1]:9001"),
        ("[::1]", "[::1]:8001"),
        ("::1", "[::1]:8001"),
    ],
)
def test_addresses(given: str, address: str) -> None:
    from vdeploy.triton.client.channel import host_and_port

    assert host_and_port(given) == address


def answers(scorer: TritonScorer, frames: np.ndarray) -> bool:
    try:
        scorer.score(frames)
    except ClientError:
        return False
    return True
