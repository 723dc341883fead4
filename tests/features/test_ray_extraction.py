"""Extraction on a Ray cluster: the same features as in one process, whatever happens to a worker."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from training.pipeline import extract_source
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import MissingExtraError, StudyError
from vdeploy.dataset import Dataset, scan
from vdeploy.features.extraction import Extraction, feature_key
from vdeploy.features.filling import SHARD_CLIPS, SHARD_SECONDS
from vdeploy.features.ray_extraction import cpus_per_worker, fill_on_cluster, portion_size
from vdeploy.features.store import FeatureStore
from vdeploy.models.backbones.vgg19.weights import find_weights
from vdeploy.synthetic import synthesize
from vdeploy.video.views import USUAL_VIEW

WEIGHTS = find_weights("random", "avg")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")


@pytest.fixture(scope="module")
def recipe(tiny_overrides: tuple[str, ...]) -> Recipe:
    return load_recipe("default", tiny_overrides)


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus"),
    [([8], 1, 8), ([8], 2, 4), ([8], 3, 2), ([8, 8, 4], 4, 4), ([8, 8, 4], 3, 4), ([2, 2], 4, 1), ([64, 2], 3, 21)],
)
def test_cpus_are_shared_out_within_machines(nodes: list[int], workers: int, cpus: int) -> None:
    assert cpus_per_worker(nodes, workers) == cpus


@pytest.mark.parametrize("nodes", [[], [0], [2]])
def test_too_small_a_cluster_is_one_clear_line(nodes: list[int]) -> None:
    with pytest.raises(StudyError, match=f"has {sum(nodes)} CPUs, too few for 3 workers; ask for fewer: --workers"):
        cpus_per_worker(nodes, 3)


@pytest.mark.parametrize(
    ("left", "workers", "speed", "size"),
    [
        (1000, 2, None, 4),
        (1000, 2, 2.0, round(2 * SHARD_SECONDS)),
        (1000000, 2, 1e4, SHARD_CLIPS),
        (10, 4, 2.0, 3),
        (1, 4, None, 1),
        (1000, 2, 1e-9, 1),
    ],
)
def test_a_portion_is_a_shard_or_a_fair_share(left: int, workers: int, speed: float | None, size: int) -> None:
    assert portion_size(left, workers, speed) == size


def test_a_missing_ray_names_its_extra(
    clips_dir: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vdeploy\[ray\]'"):
        fill_on_cluster(
            scan(clips_dir),
            recipe.clip_spec,
            recipe.make_backbone(),
            WEIGHTS,
            tmp_path,
            views=USUAL_VIEW,
            address="127.0.0.1:1",
            workers=2,
        )


def test_a_missing_extra_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("tensorflow", "train", "training")))  # noqa: S301
    assert str(error) == str(MissingExtraError("tensorflow", "train", "training"))


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_without_a_cluster_is_told_at_once(
    clips_dir: Path, recipe: Recipe, tmp_path: Path, address: str
) -> None:
    started = time.monotonic()
    with pytest.raises(StudyError, match=f"no Ray cluster at {address} .*; start one with: ray start --head"):
        fill_on_cluster(
            scan(clips_dir),
            recipe.clip_spec,
            recipe.make_backbone(),
            WEIGHTS,
            tmp_path,
            views=USUAL_VIEW,
            address=address,
            workers=2,
        )
    assert time.monotonic() - started < 60


def features_command(clips: Path, store: Path, overrides: tuple[str, ...], *options: str) -> list[str]:
    sets = [part for override in overrides for part in ("--set", override)]
    return [sys.executable, "-m", "vdeploy", "features", str(clips), "--store", str(store), *sets, *options]


def whole(dataset: Dataset, recipe: Recipe, store: Path) -> Extraction:
    return extract_source(dataset, recipe, WEIGHTS, store)


def extract_in_one_process(clips: Path, store: Path, overrides: tuple[str, ...], told: str) -> None:
    """With as many threads as each worker said to have: on some CPUs, their number decides the last bits of a sum."""
    (threads,) = re.findall(r"machines, (\d+) CPUs", told)
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": threads}
    subprocess.run(features_command(clips, store, overrides), env=environment, capture_output=True, check=True)


def check_same(dataset: Dataset, recipe: Recipe, store: Path, expected: Extraction) -> None:
    again = whole(dataset, recipe, store)
    assert again.decoded == 0
    np.testing.assert_array_equal(again.features, expected.features)
    np.testing.assert_array_equal(again.to_train_on(), expected.to_train_on())


@pytest.mark.slow
@needs_ray
def test_two_processes_give_what_one_gives(
    broken_clips_dir: Path, recipe: Recipe, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    overrides = (*tiny_overrides, "clip.views=3", "augmented_views.count=2")
    recipe = recipe.varied(clip={"views": 3}, augmented_views={"count": 2})
    command = features_command(broken_clips_dir, tmp_path / "ray", overrides, "--ray", "local", "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"decoded": 21' in done.stdout
    assert "corrupt.avi" in done.stdout
    extract_in_one_process(broken_clips_dir, tmp_path / "one", overrides, done.stderr)
    dataset = scan(broken_clips_dir)
    expected = whole(dataset, recipe, tmp_path / "one")
    readable = expected.dataset
    check_same(readable, recipe, tmp_path / "ray", expected)
    shards = list((tmp_path / "ray").glob("*/*.npy"))
    assert len(shards) > 1
    store = FeatureStore(tmp_path / "ray", feature_key(recipe.clip_spec, recipe.make_backbone(), WEIGHTS))
    assert len(store) == len(readable.clips) + 4 * len(readable.of("train"))


def workers_of(process: int) -> Iterator[int]:
    """Ray's worker processes among the descendants of a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1]), (entry / "cmdline").read_bytes()
            except OSError:
                continue
    for pid, (parent, command) in parents.items():
        ancestor = parent
        while ancestor not in (0, process):
            ancestor = parents.get(ancestor, (0, b""))[0]
        if ancestor == process and command.startswith(b"ray::_Worker"):
            yield pid


@pytest.mark.slow
@needs_ray
def test_the_work_of_a_killed_worker_is_done_by_the_other(
    recipe: Recipe, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    synthesize(clips, clips=12, size=(96, 72), fps=10.0)
    command = features_command(clips, tmp_path / "ray", tiny_overrides, "--ray", "local")
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        deadline = time.monotonic() + 200
        while not (victims := list(workers_of(process.pid))):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(victims[0], signal.SIGKILL)
        _, told = process.communicate()
    assert process.returncode == 0
    assert "a worker died" in told
    extract_in_one_process(clips, tmp_path / "one", tiny_overrides, told)
    dataset = scan(clips)
    check_same(dataset, recipe, tmp_path / "ray", whole(dataset, recipe, tmp_path / "one"))
