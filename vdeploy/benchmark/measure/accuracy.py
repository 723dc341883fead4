"""Accuracy of a row: measured on held-out clips, or taken from the bundle's manifest."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdeploy.artifacts.bundle import HeldOut, Manifest
from vdeploy.benchmark.measure.candidates import Candidate
from vdeploy.benchmark.measure.interleaving import Measurement
from vdeploy.benchmark.measure.process import RowProcess
from vdeploy.benchmark.record import Workload
from vdeploy.core.errors import DatasetError
from vdeploy.core.files import sha256_of
from vdeploy.core.progress import say, track
from vdeploy.dataset import Dataset, LabelledClip, scan
from vdeploy.evaluation.metrics import evaluate
from vdeploy.export.verification.held_out import alternate

__all__ = ["HeldOutVideos", "figures_of_manifest"]


class HeldOutVideos:
    """Labelled video files that the run was not trained on.

    Args:
        source: Labelled clips. The clips of the split ``test`` are used where there are any, else those of ``valid``.
        positive: Names of the violent class, where they are not recognised.
        threshold: Probability from which a clip counts as violent.
        limit: Number of clips, the classes alternating; ``None`` for all.

    Attributes:
        paths: The files.

    Raises:
        DatasetError: There are none.
    """

    def __init__(self, source: Path, positive: Sequence[str], threshold: float, limit: int | None) -> None:
        dataset: Dataset = scan(source, positive=positive)
        chosen: list[LabelledClip] = alternate(dataset.of("test") or dataset.of("valid"))[:limit]
        if not chosen:
            raise DatasetError(f"{source} holds no clips to test or validate with", "see: vdeploy data scan")
        self.paths = [str(dataset.absolute(clip)) for clip in chosen]
        self._labels = dict(zip(self.paths, (clip.label for clip in chosen), strict=True))
        self._threshold = threshold

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the contents and labels of all clips, wherever they lie."""
        clips = sorted(f"{sha256_of(Path(path))} {label}" for path, label in self._labels.items())
        return hashlib.sha256("\n".join(clips).encode()).hexdigest()

    def score(self, measurement: Measurement, process: RowProcess) -> None:
        """Scores all clips in the process of a row; clips that cannot be read are left out.

        Args:
            measurement: The row; the probabilities are written into it.
            process: Its process.
        """
        with track(f"score {measurement.label}", len(self.paths), "clips") as step:
            for path in self.paths:
                answer = process.ask("score", path)
                if "unreadable" in answer:
                    say(f"left out: {path}: {answer['unreadable']}")
                else:
                    measurement.probabilities[path] = float(answer["probability"])
                step.advance()

    def figures(self, found: Mapping[str, float], reference: Mapping[str, float] | None) -> dict[str, Any]:
        """Computes the accuracy fields of a row.

        Args:
            found: Probabilities by path.
            reference: Probabilities to compare with; ``None`` where there are none.
        """
        if not found:
            return {}
        labels = np.array([self._labels[path] for path in found], np.int64)
        scores = np.array(list(found.values()), np.float64)
        evaluation = evaluate(labels, scores, threshold=self._threshold, bootstrap=0)
        both = [path for path in found if reference is not None and path in reference]
        pairs = np.array([(found[path], (reference or {})[path]) for path in both]) >= self._threshold
        return {
            "accuracy": evaluation.accuracy,
            "auc": evaluation.roc_auc,
            "agreement": float(np.mean(pairs[:, 0] == pairs[:, 1])) if both else None,
            "held_out_clips": len(found),
            "held_out_from": "this run",
        }


def figures_of_manifest(manifest: Manifest, candidate: Candidate, what: Workload) -> dict[str, Any]:
    """Reads the accuracy fields of a row from the manifest; they are not known for a peer.

    Args:
        manifest: Manifest of the bundle.
        candidate: The candidate.
        what: The workload.
    """
    if candidate.peer:
        return {}
    stage = what if what in ("extractor", "classifier") else None
    held_out: HeldOut | None = (
        candidate.artifacts[stage].held_out if stage else manifest.end_to_end.get(candidate.format)
    )
    if held_out is None:
        return {}
    return {
        "accuracy": held_out.accuracy,
        "auc": held_out.roc_auc,
        "agreement": held_out.agreement,
        "held_out_clips": held_out.clips,
        "held_out_from": "manifest",
    }
