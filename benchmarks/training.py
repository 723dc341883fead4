"""Seconds per epoch on cached features: this trainer, plain Keras, and the measured peak of the machine.

    python -m benchmarks.training [--clips 10000] [--epochs 4] [--json] [--out FILE]

Features are synthetic, ``N x 16 x 4096``. All figures come from one run, so that their ratios hold on any machine:

- matmul peak: the best of several square products in each type, on the device that trains;
- baseline: LSTM(128), Dense(64), Dense(2) in float32 as one writes it with Keras: ``from_tensor_slices``, ``shuffle``,
  ``batch``, ``prefetch``, ``compile``, ``fit``;
- ours: `training.engine.trainer.Trainer` with the default recipe's network, which has a normalisation and dropout
  beside the same layers, and once more without the dropout, as the baseline has none; the time includes the validation
  of 100 clips. What is dropped is not multiplied (see `vdeploy.models.heads.lstm.training_step.draw_dropout`): the
  share of the peak counts the arithmetic that is done, not what is saved.

The first epoch of each compiles and is left out; the median of the others counts. FLOPs: a matrix product m x k by
k x n is 2 m k n; a training step takes three for every weight matrix (forward, gradient of the weights, gradient of the
input) and two for the LSTM's kernel, as nothing is propagated into the features. Elementwise work is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import add_output_options, report_result
from training.engine.precision import COMPUTE_TYPES, choose_precision
from training.engine.step_benchmark import synthetic_split
from training.engine.trainer import FeatureSplit, Trainer
from training.recipe import Recipe, load_recipe
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.heads.lstm.model import LSTMSettings

FRAMES, DIM = 16, 4096
BASELINE_BATCH = 64
BATCHES = (64, 256, 512)
_VALID = 100
_PEAK_SIZES = (2048, 4096)
_PEAK_REPEATS = 6


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        name: What it is.
        batch: Clips of a batch.
        precision: As in the recipe.
        seconds_per_epoch: Median.
        tflop: Arithmetic of an epoch, in 10^12.
        tflops: Arithmetic done a second, in 10^12.
        share_of_peak: Of the matmul peak of the compute type.
        times_baseline: How many times faster than the baseline.
    """

    name: str
    batch: int
    precision: str
    seconds_per_epoch: float
    tflop: float
    tflops: float
    share_of_peak: float
    times_baseline: float


def flops_per_clip(section: LSTMSettings) -> int:
    """FLOPs of forward and backward pass of one clip, without the features that are dropped."""
    gates = 4 * section.units
    kernel = round(4 * FRAMES * DIM * gates * (1 - section.dropout))
    recurrent = 6 * FRAMES * section.units * gates
    dense = 6 * (section.units * section.dense + section.dense * 2)
    return kernel + recurrent + dense


def matmul_peak(dtype: str) -> float:
    """The highest rate of a square matrix product that is seen, FLOP/s."""
    tf: Any = load_tensorflow()
    product = tf.function(lambda a: tf.reduce_max(tf.reshape(a @ a, (-1,))[:1]))
    best = 0.0
    for size in _PEAK_SIZES:
        matrix = tf.cast(tf.random.normal((size, size)), dtype)
        product(matrix).numpy()
        for _ in range(_PEAK_REPEATS):
            started = time.perf_counter()
            product(matrix).numpy()
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def baseline_epochs(split: FeatureSplit, epochs: int) -> list[float]:
    """Seconds of each epoch of the plain Keras program."""
    tf, keras = load_tensorflow(), load_keras()
    targets = np.eye(2, dtype=np.float32)[split.labels]
    data = tf.data.Dataset.from_tensor_slices((split.features[:].astype(np.float32), targets))
    data = data.shuffle(1000).batch(BASELINE_BATCH).prefetch(tf.data.AUTOTUNE)
    section = LSTMSettings()
    model = keras.Sequential(
        [
            keras.Input((FRAMES, DIM)),
            keras.layers.LSTM(section.units),
            keras.layers.Dense(section.dense, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy")
    marks: list[float] = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: marks.append(time.perf_counter()),
        on_train_end=lambda *_: marks.append(time.perf_counter()),
    )
    model.fit(data, epochs=epochs, verbose=0, callbacks=[note])
    return list(np.diff(marks))


def our_epochs(split: FeatureSplit, recipe: Recipe) -> list[float]:
    """Seconds of each epoch of the trainer."""
    valid = FeatureSplit(split.features[:_VALID], split.labels[:_VALID])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, split, valid, Path(folder))
        trainer.fit()
    return [record.seconds for record in trainer.history]


def measure(clips: int, epochs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs everything.

    Args:
        clips: Clips of an epoch.
        epochs: Epochs of each way to train, the first of which does not count.
        say: Told what is being done.

    Returns:
        A JSON-ready report.
    """
    tf: Any = load_tensorflow()
    common = [f"training.epochs={epochs}", f"training.patience={epochs}"]
    recipe = load_recipe("default", common)
    split = synthetic_split(clips, FRAMES, DIM)
    say("matmul peak")
    chosen = choose_precision(recipe.training)
    types = dict.fromkeys(("float32", "bfloat16", COMPUTE_TYPES[chosen.name]))
    peaks = {dtype: matmul_peak(dtype) for dtype in types}
    say("plain Keras")
    baseline = statistics.median(baseline_epochs(split, epochs)[1:])

    def row(name: str, batch: int, precision: str, dropout: float, seconds: float) -> Row:
        flops = flops_per_clip(recipe.head.model_copy(update={"dropout": dropout})) * clips
        return Row(
            name=name,
            batch=batch,
            precision=precision,
            seconds_per_epoch=seconds,
            tflop=flops / 1e12,
            tflops=flops / seconds / 1e12,
            share_of_peak=flops / seconds / peaks[COMPUTE_TYPES[precision]],
            times_baseline=baseline / seconds,
        )

    rows = [row("plain Keras", BASELINE_BATCH, "float32", 0.0, baseline)]
    ways = [(precision, recipe.head.dropout) for precision in dict.fromkeys(("float32", chosen.name))]
    for precision, dropout in (*ways, (chosen.name, 0.0)):
        for batch in BATCHES:
            name = "ours" if dropout else "ours, no dropout"
            say(f"{name}, {precision}, batch {batch}")
            changed = load_recipe(
                "default",
                [
                    *common,
                    f"training.batch={batch}",
                    f"training.precision={precision}",
                    f"head.dropout={dropout}",
                ],
            )
            seconds = statistics.median(our_epochs(split, changed)[1:])
            rows.append(row(name, batch, precision, dropout, seconds))
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        "clips": clips,
        "shape": [FRAMES, DIM],
        "gpus": gpus,
        "tensorflow": tf.__version__,
        "peak_tflops": {dtype: peak / 1e12 for dtype, peak in peaks.items()},
        "rows": [dataclasses.asdict(each) for each in rows],
    }


def as_text(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    peaks = ", ".join(f"{dtype} {peak:.3f}" for dtype, peak in report["peak_tflops"].items())
    lines = [
        f"{report['clips']} clips x {FRAMES} x {DIM}, on {', '.join(report['gpus']) or 'the CPU'}",
        f"matmul peak, TFLOP/s: {peaks}",
        f"{'':16} {'batch':>5}  {'precision':15} {'s/epoch':>8} {'TFLOP':>6} {'TFLOP/s':>8} {'of peak':>8}  faster",
    ]
    for row in report["rows"]:
        name = f"{row['name']:16} {row['batch']:5}  {row['precision']:15}"
        speed = f"{row['seconds_per_epoch']:8.2f} {row['tflop']:6.2f} {row['tflops']:8.3f} {row['share_of_peak']:8.0%}"
        lines.append(f"{name} {speed} {row['times_baseline']:7.2f}x")
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4, help="at least 2: the first one is not counted")
    add_output_options(parser)
    options = parser.parse_args()
    if options.epochs < 2 or options.clips < _VALID:
        parser.error(f"--epochs must be at least 2 and --clips at least {_VALID}")
    report = measure(options.clips, options.epochs, lambda text: print(f"{text} ...", file=sys.stderr, flush=True))
    report_result(options, report, as_text(report))


if __name__ == "__main__":
    main()
