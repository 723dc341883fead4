"""Features larger than the memory that the process may take are trained on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

CODE = """
import resource, sys
from pathlib import Path
import numpy as np
from training.recipe import load_recipe
from vdeploy.features.memory_mapped import ShardedFeatures
from training.engine.trainer import FeatureSplit, Trainer

folder, limit = Path(sys.argv[1]), float(sys.argv[2])
shards = sorted(folder.glob("*.npy"))
valid = FeatureSplit(np.load(shards[0])[:8], np.arange(8) % 2)
common = ["training.epochs=2", "training.batch=16", "head.units=8", "head.dense=8"]

def train(split, name, limit):
    recipe = load_recipe("default", [*common, f"training.memory_limit_gb={limit}"])
    trainer = Trainer(recipe, split, valid, folder / name)
    trainer.fit()
    return [record.loss for record in trainer.history]

warm = FeatureSplit(np.load(shards[0]), np.arange(64) % 2)
train(warm, "warm", 1)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
if limit < 1:
    resource.setrlimit(resource.RLIMIT_DATA, (used + 200_000_000,) * 2)
everything = ShardedFeatures(shards)
print(train(FeatureSplit(everything, np.arange(len(everything)) % 2), f"run-{limit}", limit))
"""


@pytest.mark.slow
def test_a_set_of_three_times_the_memory_that_is_left_trains_to_the_same_losses(tmp_path: Path) -> None:
    """600 MB of features with 200 MB of private memory to spare, against all of them in memory."""
    features = np.random.default_rng(0).normal(size=(64, 16, 4096)).astype(np.float16)
    for index in range(72):
        np.save(tmp_path / f"{index:02d}.npy", np.roll(features, index, axis=-1))
    streamed, resident = (run(tmp_path, limit) for limit in ("0.04", "1.0"))
    assert streamed == resident


def run(folder: Path, limit: str) -> str:
    # Large blocks come from the system one by one: what the C library keeps of freed ones, for each of the threads that
    # happen to run at once on a busy machine, is not what is measured.
    allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}
    environment = {**os.environ, **allocator, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), str(folder), limit],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("features streamed" if limit == "0.04" else "features in memory") in done.stderr
    return done.stdout
