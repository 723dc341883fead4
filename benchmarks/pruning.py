"""What pruning costs and saves: accuracy, operations and time of a run at several shares of its backbone's operations.

    python -m benchmarks.pruning RUN DATA [--split valid] [--keep 0.5 0.35 0.2] [--work DIR] [--json] [--out FILE]

RUN is on VGG19 or I3D; it is pruned with each share by `vdeploy prune`, which learns from the run's training clips
alone, and judged on the clips of a split that it has not learned from. Take a run whose head is linear: it chooses
nothing on the validation split either. The difference in accuracy is paired, with a 95 % interval from a bootstrap over
sources, or over clips where no source is known. The time is that of one clip through the exported backbone on this
machine: the median of interleaved calls. What is finished in the work folder is used again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.made_models import made_bundle, made_run
from benchmarks.output import add_output_options, report_result
from training.methods.pruning.prune_run import prune_run
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import UserError
from vdeploy.core.files import cache_dir
from vdeploy.dataset import LabelledClip, scan
from vdeploy.evaluate import Result, evaluate_on
from vdeploy.export.options import ExportOptions
from vdeploy.inference.in_process import LocalScorer

_RESAMPLES = 2000


def main() -> None:
    """Reads options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.35, 0.2])
    parser.add_argument("--format", default="onnx-fp32", help="format whose time is measured")
    parser.add_argument("--calls", type=int, default=15, help="calls of each backbone")
    parser.add_argument("--work", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--store", type=Path, default=cache_dir() / "features")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        roots = {1.0: options.run} | {keep: _pruned(keep, options) for keep in sorted(options.keep, reverse=True)}
        results = {keep: _judge(root, options) for keep, root in roots.items()}
        bundles = {keep: _export(keep, root, options) for keep, root in roots.items()}
        times = _times([LocalScorer(bundle, options.format) for bundle in bundles.values()], options.calls)
    except UserError as error:
        parser.error(str(error))
    clips = {clip.path: clip for clip in scan(options.data).clips}
    rows = [
        {
            "keep": keep,
            "flops": bundles[keep].manifest.extractor.flops,
            "flops_share": (bundles[keep].manifest.extractor.flops or 0) / (bundles[1.0].manifest.extractor.flops or 1),
            "parameters": bundles[keep].manifest.extractor.parameters,
            "bytes": bundles[keep].artifact("extractor", options.format).bytes,
            "clip_ms": milliseconds,
            **_compare(results[keep], results[1.0], clips),
        }
        for keep, milliseconds in zip(roots, times, strict=True)
    ]
    count = len(results[1.0].probabilities)
    title = f"{options.run} on {options.data}, {count} clips of the split {options.split}, {options.format}"
    given = {"run": str(options.run), "data": str(options.data), "split": options.split, "clips": count}
    report_result(options, {**given, "format": options.format, "rows": rows}, "\n".join([title, *map(_line, rows)]))


def _pruned(keep: float, options: argparse.Namespace) -> Path:
    return made_run(
        options.work / f"keep-{keep:g}",
        lambda out: prune_run(options.run, out, keep=keep, store_root=options.store),
    )


def _judge(root: Path, options: argparse.Namespace) -> Result:
    return evaluate_on(root, options.data, split=options.split, positive=(), store_root=options.store)


def _export(keep: float, root: Path, options: argparse.Namespace) -> Bundle:
    chosen = ExportOptions(store_root=options.store, clips=8)
    return made_bundle(options.work / f"bundle-{keep:g}", root, options.format, chosen)


def _times(scorers: list[LocalScorer], calls: int) -> list[float]:
    spec = scorers[0].spec
    clip = np.random.default_rng(0).integers(0, 256, (1, spec.frames, spec.size, spec.size, 3)).astype(np.uint8)
    taken: list[list[float]] = [[] for _ in scorers]
    for call in range(calls + 1):
        for scorer, seconds in zip(scorers, taken, strict=True):
            started = time.perf_counter()
            scorer.extract(clip)
            if call:  # the first one warms up
                seconds.append(time.perf_counter() - started)
    return [1000 * float(np.median(seconds)) for seconds in taken]


def _right(result: Result, clips: dict[str, LabelledClip]) -> npt.NDArray[np.float64]:
    """1 for each clip that is judged right at the run's threshold, ``float64[N]``."""
    threshold = result.evaluation.threshold
    return np.array([(p >= threshold) == bool(clips[path].label) for path, p in result.probabilities.items()], float)


def _compare(result: Result, whole: Result, clips: dict[str, LabelledClip]) -> dict[str, Any]:
    """Accuracy, and the paired difference from the run that is not pruned."""
    gain = _right(result, clips) - _right(whole, clips)
    names = np.array([clips[path].group or path for path in result.probabilities])
    sources = [np.flatnonzero(names == name) for name in np.unique(names)]
    random = np.random.default_rng(0)
    drawn = [
        gain[np.concatenate([sources[index] for index in random.integers(len(sources), size=len(sources))])].mean()
        for _ in range(_RESAMPLES)
    ]
    return {
        "accuracy": result.evaluation.accuracy,
        "roc_auc": result.evaluation.roc_auc,
        "log_loss": result.evaluation.log_loss,
        "difference": float(gain.mean()),
        "interval": [float(value) for value in np.percentile(drawn, [2.5, 97.5])],
    }


def _line(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return (
        f"keep {row['keep']:<5g} {row['flops_share']:6.1%} of the operations  {row['bytes'] / 1e6:6.1f} MB  "
        f"{row['clip_ms']:7.1f} ms a clip  accuracy {row['accuracy']:.1%}  AUC {row['roc_auc']:.4f}  "
        f"difference {100 * row['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    )


if __name__ == "__main__":
    main()
