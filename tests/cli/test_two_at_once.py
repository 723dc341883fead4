"""Of two commands that write one folder or file at once, one is refused in a line and the other is unharmed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle
from testing.waiting import eventually
from tests.conftest import TINY, Done
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import Run
from vdeploy.features.store import FeatureKey, FeatureStore

pytestmark = pytest.mark.slow

SETS = [word for override in TINY for word in ("--set", override)]

HOLD = """
import sys
from pathlib import Path
from vdeploy.core.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""

APPEND = """
import sys
from pathlib import Path
import numpy as np
from vdeploy.features.store import FeatureKey, FeatureStore
store = FeatureStore(Path(sys.argv[1]), FeatureKey("a" * 64, "avg", "b" * 64, (4, 8)))
value = int(sys.argv[2])
for repetition in range(40):
    for shard in range(5):
        store.append({f"{shard}{clip}" * 32: np.full((4, 8), value, np.float32) for clip in range(8)})
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def both(*arguments: object, another: str = "--out") -> None:
    """Runs a command twice at the same time."""
    processes = [start(*arguments) for _ in range(2)]
    ends = sorted((process.communicate(timeout=300)[1], process.returncode) for process in processes)
    assert sorted(code for _, code in ends) == [0, 1], ends
    (refused,) = (told.splitlines()[-1] for told, code in ends if code)
    assert "is being written by process" in refused
    assert refused.endswith(f"; wait until that is done, or {another}")


@contextlib.contextmanager
def another_process_writes(path: Path) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process.pid


def test_trainings_and_exports(clips_dir: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    both("train", clips_dir, "--out", run, "--store", tmp_path / "store", *SETS, another="choose another --out")
    assert Run.load(run)
    both("export", run, "--out", bundle, "--store", tmp_path / "store", another="choose another --out")
    assert Bundle(bundle).manifest.artifacts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "run", "store"]


def test_studies(clips_dir: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "study.json", ("--store", tmp_path / "store", *SETS, "--set", "training.epochs=1")
    both("ablate", clips_dir, "--seeds", 1, "--out", out, *options, another="choose another --out")
    trainings = json.loads(out.read_text())["trainings"]
    done = start("ablate", clips_dir, "--seeds", 1, "--out", out, *options, "--json")
    assert len(json.loads(done.communicate(timeout=300)[0])["rows"]) == len(trainings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "study.json"]


def test_synthetic_data(tmp_path: Path) -> None:
    """The first command is stopped while the second one runs, which so needs few clips."""
    arguments = ("data", "synth", tmp_path / "clips", "--clips", 4)
    first = start(*arguments)
    assert eventually(lambda: bool(list(tmp_path.rglob("*.json"))))
    first.send_signal(signal.SIGSTOP)
    second = start(*arguments)
    told = second.communicate(timeout=300)[1].splitlines()[-1]
    first.send_signal(signal.SIGCONT)
    assert f"is being written by process {first.pid} on " in told
    assert told.endswith("; wait until that is done, or name another folder")
    first.communicate(timeout=300)
    assert (second.returncode, first.returncode) == (1, 0)
    assert len(list(tmp_path.rglob("*.mp4"))) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("study.json", ("ablate", "clips", "--out", "study.json")),
        ("study.db", ("tune", "clips", "--study", "study.db")),
        ("best.toml", ("tune", "clips", "--study", "study.db", "--out", "best.toml")),
        ("curve.json", ("lr-find", "clips", "--out", "curve.json")),
        ("result.json", ("benchmark", "bundle", "--out", "result.json")),
        ("page.html", ("benchmark", "bundle", "--html", "page.html")),
        ("scaling", ("benchmark", "scale", "bundle", "--out", "scaling")),
        ("events", ("predict", "videos", "--bundle", "bundle", "--clips", "events")),
        ("timeline.json", ("predict", "videos", "--bundle", "bundle", "--timeline", "timeline.json")),
        ("tuned", ("tune-serving", "bundle", "--slo-p99-ms", "100", "--out", "tuned")),
        ("mined", ("mine", "bundle", "videos", "--out", "mined")),
        ("timeline.png", ("predict", "videos", "--bundle", "bundle", "--plot", "timeline.png")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_output_that_another_process_writes(
    tmp_path: Path, vdeploy: Callable[..., Done], written: str, arguments: tuple[str, ...]
) -> None:
    """Nothing is computed, and nothing is written."""
    make_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"none")
    with another_process_writes(tmp_path / written) as process:
        done = vdeploy(*arguments)
    assert done.code == 1
    assert f"{written} is being written by process {process} on " in done.err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "videos"]


def test_extractions_into_one_store_need_no_lock(clips_dir: Path, tmp_path: Path) -> None:
    """Both end well, and the store then holds every clip."""
    command = ("features", clips_dir, "--store", tmp_path, *SETS, "--json")
    ends = [process.communicate(timeout=300) for process in [start(*command) for _ in range(2)]]
    assert [json.loads(out)["clips"] for out, _ in ends] == [20, 20], ends
    out, told = start(*command).communicate(timeout=300)
    assert json.loads(out)["from_store"] == 20
    assert "damaged" not in told


def test_a_shard_of_two_processes_is_of_one_of_them(tmp_path: Path) -> None:
    """Also when the same clips gave them other features: what does not fit its checksum is extracted again."""
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, tmp_path, str(value)]) for value in (1, 2)]
    key = FeatureKey("a" * 64, "avg", "b" * 64, (4, 8))
    while any(process.poll() is None for process in writers):
        check(FeatureStore(tmp_path, key))
    assert [process.returncode for process in writers] == [0, 0]
    store = FeatureStore(tmp_path, key)
    check(store)
    store.append({f"0{clip}" * 32: np.full((4, 8), 3, np.float32) for clip in range(8)})
    assert FeatureStore(tmp_path, key).rows(np.array(["00" * 32]))[:].min() == 3


def check(store: FeatureStore) -> None:
    for shard in range(5):
        clips = [name for clip in range(8) if (name := f"{shard}{clip}" * 32) in store]
        if clips:
            values = store.rows(np.array(clips))[:]
            assert len(np.unique(values)) == 1
