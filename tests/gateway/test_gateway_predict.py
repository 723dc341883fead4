from __future__ import annotations

import concurrent.futures
import io
import json
from pathlib import Path

import numpy as np
import pytest

from testing.running_gateway import Running
from testing.tiny_bundle import tiny_probabilities
from testing.videos import drop_tail, write_audio, write_numbered
from testing.waiting import eventually
from vdeploy.artifacts.bundle import Bundle
from vdeploy.detector import detect
from vdeploy.inference.in_process import LocalScorer
from vdeploy.timeline.timeline import Timeline
from vdeploy.video.clips import ClipSpec, read_clip

SPEC = ClipSpec(frames=4, size=32)


OTHER_FORM = b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n'


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def send(gateway: Running, content: bytes, **params: object):
    with gateway.client() as client:
        return client.post("/predict", files={"video": ("secret-name.mp4", content)}, params=params)


def send_array(gateway: Running, content: bytes, kind: str = "application/octet-stream", **headers: str):
    with gateway.client() as client:
        return client.post("/predict/frames", content=content, headers={"Content-Type": kind, **headers})


def test_an_upload_gets_the_probability_of_the_same_clip_in_process(gateway: Running, video: Path):
    answer = send(gateway, video.read_bytes())
    assert answer.status_code == 200, answer.text
    found = answer.json()
    expected = tiny_probabilities(read_clip(video, SPEC).frames[np.newaxis])[0, 1]
    assert found["violent_probability"] == pytest.approx(expected, abs=1e-5)
    assert found["is_violent"] is bool(expected >= 0.5)
    assert found["model"]["run"] == "tiny"
    assert found["timeline"] is None
    assert found["timings"]["decode_ms"] > 0
    assert found["request_id"] == answer.headers["X-Request-ID"]
    assert not gateway.files()


def test_a_timeline_is_what_the_detector_makes(gateway: Running, bundle_dir: Path, video: Path):
    found = send(gateway, video.read_bytes(), timeline=True, window_s=1, stride_s=0.5).json()
    expected = detect(video, LocalScorer(Bundle(bundle_dir)), window_s=1, stride_s=0.5)
    timeline = Timeline.from_json(json.dumps(found["timeline"]))
    assert timeline.source == ""
    assert [(one.start_s, one.end_s) for one in timeline.windows] == [
        (one.start_s, one.end_s) for one in expected.windows
    ]
    np.testing.assert_allclose(
        [one.probability for one in timeline.windows], [one.probability for one in expected.windows], atol=1e-5
    )
    assert len(timeline.events) == len(expected.events)
    assert found["violent_probability"] == timeline.peak_probability


def test_many_clips_at_a_time_get_their_own_probabilities(gateway: Running):
    clips = np.random.default_rng(0).integers(0, 256, (48, 4, 32, 32, 3), np.uint8)
    expected = tiny_probabilities(clips)[:, 1]
    with gateway.client() as client, concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(
                lambda clip: client.post(
                    "/predict/frames", content=npy(clip), headers={"Content-Type": "application/octet-stream"}
                ),
                clips,
            )
        )
    assert {answer.status_code for answer in answers} == {200}
    found = [answer.json()["violent_probability"] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((1, 32, 32, 3), np.float32), "wrong_shape"),
        (np.zeros((3, 32, 32, 3), np.uint8), "wrong_shape"),
        (np.asfortranarray(np.zeros((4, 32, 32, 3), np.uint8)), "wrong_shape"),
        (np.array([{"pickled": "object"}]), "wrong_shape"),
    ],
)
def test_other_arrays_are_refused(gateway: Running, array: np.ndarray, code: str):
    answer = send_array(gateway, npy(array))
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 3000, b"dear diary"])
def test_what_is_no_array_is_refused(gateway: Running, content: bytes):
    answer = send_array(gateway, content)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "not_an_array"


def test_an_incomplete_array_is_refused(gateway: Running):
    answer = send_array(gateway, npy(np.zeros((4, 32, 32, 3), np.uint8))[:-1])
    assert answer.json()["error"]["code"] == "not_an_array"


def test_an_array_that_is_too_large_is_refused_before_it_has_arrived(gateway: Running):
    answer = send_array(gateway, npy(np.zeros((400, 32, 32, 3), np.uint8)))
    assert answer.status_code == 413


def test_an_array_of_another_type_is_refused(gateway: Running):
    assert send_array(gateway, b"{}", "application/json").status_code == 415


def test_an_upload_over_the_limit_is_cut_off_while_it_arrives(gateway: Running):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
        while sent < 64 << 20:
            sent += 65_536
            yield bytes(65_536)

    with gateway.client() as client:
        try:
            answer = client.post(
                "/predict", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}
            )
        except OSError:
            answer = None
        except Exception as error:
            assert "Write" in type(error).__name__ or "Read" in type(error).__name__  # noqa: PT017  the server hangs up
            answer = None
    assert answer is None or answer.status_code == 413
    assert sent < 64 << 20
    assert eventually(lambda: not gateway.files())


def test_an_upload_that_says_it_is_too_large_is_refused_at_once(gateway: Running):
    answer = send(gateway, bytes(2 << 20))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "upload_too_large"


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--y\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
            422,
        ),
    ],
)
def test_bodies_that_are_no_form_with_a_video_are_refused(gateway: Running, kind: str, content: bytes, status: int):
    with gateway.client() as client:
        answer = client.post("/predict", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "hint", "request_id"}


def test_videos_beyond_the_limits_are_refused(gateway: Running, tmp_path: Path):
    cases = {
        "video_too_long": write_numbered(tmp_path / "long.mp4", 150, fps=5),
        "resolution_too_high": write_numbered(tmp_path / "large.mp4", 2, width=800, height=600),
        "too_many_frames": write_numbered(tmp_path / "many.mp4", 700, width=32, height=32, fps=60),
    }
    for code, path in cases.items():
        for timeline in (False, True):
            answer = send(gateway, path.read_bytes(), timeline=timeline)
            assert answer.status_code == 422
            assert answer.json()["error"]["code"] == code


def test_files_that_are_no_videos_are_refused(gateway: Running, tmp_path: Path, video: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes())
    for content in (
        b"",
        b"dear diary",
        write_audio(tmp_path / "sound.mp4").read_bytes(),
        drop_tail(broken, 0.5).read_bytes(),
    ):
        answer = send(gateway, content)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "unreadable_video"
        assert "upload" not in answer.text


def test_a_playlist_reads_no_other_file(gateway: Running, video: Path):
    for content in (f"#EXTM3U\n#EXTINF:1,\nfile://{video}\n", f"ffconcat version 1.0\nfile '{video}'\n"):
        assert send(gateway, content.encode()).status_code == 422


@pytest.mark.parametrize("params", [{"window_s": 0}, {"stride_s": -1}, {"timeline": "perhaps"}, {"window_s": "nan"}])
def test_wrong_parameters_are_refused(gateway: Running, video: Path, params: dict[str, object]):
    answer = send(gateway, video.read_bytes(), **params)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"


def test_a_long_video_that_was_judged_as_one_clip_is_remarked(gateway: Running, tmp_path: Path):
    path = write_numbered(tmp_path / "long.mp4", 60, fps=5)
    assert any("timeline" in warning for warning in send(gateway, path.read_bytes()).json()["warnings"])


def test_the_log_says_nothing_about_people(gateway: Running, video: Path):
    answer = send(gateway, video.read_bytes())
    number = answer.headers["X-Request-ID"]
    assert eventually(lambda: any(record["request_id"] == number for record in gateway.records("request")))
    (record,) = [record for record in gateway.records("request") if record["request_id"] == number]
    assert record["route"] == "/predict"
    assert record["status"] == 200
    text = "".join(gateway.lines)
    assert "secret-name" not in text
    assert "127.0.0.1:" not in "".join(line for line in gateway.lines if line.startswith("{"))
