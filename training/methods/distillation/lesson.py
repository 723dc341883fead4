"""What a teacher says: probabilities of training clips, and of clips that nobody has labelled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import FeatureSplit
from training.recipe import Recipe
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import RecipeError, UserError
from vdeploy.core.files import sha256_of
from vdeploy.core.progress import say, track
from vdeploy.dataset import Dataset, LabelledClip
from vdeploy.detector import find_videos
from vdeploy.features.extraction import extract_dataset, extract_with
from vdeploy.features.prediction import predict
from vdeploy.features.store import FeatureKey, FeatureStore
from vdeploy.inference.in_process import LocalScorer
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import numpy.typing as npt

    Soft = npt.NDArray[np.float32]

__all__ = ["Lesson", "prepare_lesson"]

_TINY = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned from a teacher.

    Attributes:
        soft: The teacher's probabilities of the clips of the training split, ``float32[N, 2]``.
        unlabelled: Further clips with the teacher's probabilities; its labels are the teacher's verdicts.
        digest: Hash of the teacher, the unlabelled clips and the probabilities.
    """

    soft: Soft
    unlabelled: FeatureSplit | None
    digest: str


def prepare_lesson(recipe: Recipe, dataset: Dataset, weights: Weights, store_root: Path) -> Lesson | None:
    """Ask the teacher of a recipe.

    What a run says follows from features in the store; what a bundle says is kept there as well, so that an interrupted
    call goes on where it stopped.

    Args:
        recipe: Every choice.
        dataset: The clips; those of the training split are asked about.
        weights: The weights of the student's backbone, for the features of unlabelled clips.
        store_root: Folder of all feature stores.

    Returns:
        The lesson; ``None`` if the recipe names no teacher.

    Raises:
        RecipeError: There is no teacher, or no unlabelled clip.
        UserError: The teacher or a clip cannot be used.
    """
    if not recipe.distill.teacher:
        return None
    teacher = _Teacher(Path(recipe.distill.teacher), store_root, recipe.training.memory_limit_gb * 1e9)
    soft = teacher.probabilities(dataclasses.replace(dataset, clips=dataset.of("train")))
    unlabelled, hashes = None, ""
    if recipe.distill.unlabelled:
        unlabelled, hashes = _unlabelled(recipe, dataset, weights, store_root, teacher)
    digest = hashlib.sha256(json.dumps([teacher.digest, hashes]).encode() + soft.tobytes()).hexdigest()
    return Lesson(soft, unlabelled, digest)


class _Teacher:
    """A run or a bundle that is asked about clips."""

    def __init__(self, root: Path, store_root: Path, memory_limit: float) -> None:
        self._store_root, self._limit = store_root, memory_limit
        self._run: Run | None = None
        try:
            if (root / MANIFEST).is_file():
                self._bundle = Bundle(root)
                self.digest = self._bundle.manifest.digest
            else:
                self._run = Run.load(root)
                self.digest = f"{self._run.info.weights_sha256} {self._run.info.classifier_sha256}"
        except UserError as error:
            raise RecipeError(f"distill.teacher: {error.message}", error.hint) from error

    def probabilities(self, dataset: Dataset) -> Soft:
        """Probabilities of clips, ``float32[N, 2]``."""
        say(f"distill: asking the teacher about {len(dataset.clips)} clips")
        dataset = dataclasses.replace(dataset, problems=())  # the student has left these out already
        if self._run is not None:
            run = self._run
            found = extract_with(
                dataset, run.spec, run.backbone, run.weights(), self._store_root, strict=True, memory_limit=self._limit
            )
            return predict(run.classifier(), found.features)
        spec = self._bundle.manifest.clip_spec
        key = FeatureKey(spec.digest, "logarithms of a bundle's probabilities", self.digest, (1, 2))
        make: Any = lambda: _BundleScores(self._bundle)  # noqa: E731  an extractor, as far as the store needs one
        kept = extract_dataset(dataset, spec, FeatureStore(self._store_root, key), make, strict=True)
        soft = np.exp(kept.features[:, 0].astype(np.float32))
        normalised: Soft = soft / soft.sum(axis=1, keepdims=True)
        return normalised


class _BundleScores:
    """What a bundle says, in the place of features: ``float32[B, 1, 2]`` logarithms of probabilities."""

    batch_clips = 1

    def __init__(self, bundle: Bundle) -> None:
        self._scorer = LocalScorer(bundle)

    def extract(self, frames: npt.NDArray[np.uint8]) -> Soft:
        """Score clips ``uint8[B, T, H, W, 3]``."""
        scores: Soft = np.log(np.maximum(self._scorer.score(frames), _TINY))[:, None]
        return scores


def _unlabelled(
    recipe: Recipe, dataset: Dataset, weights: Weights, store_root: Path, teacher: _Teacher
) -> tuple[FeatureSplit, str]:
    """Features of unlabelled clips with what the teacher says of them, and the hash of these clips."""
    known = {clip.sha256 for clip in dataset.clips}
    files = find_videos([recipe.distill.unlabelled])
    with track("hash unlabelled clips", len(files), "files") as step:
        clips = {clip.sha256: clip for clip in _hashed(files, step.advance) if clip.sha256 not in known}
    if not clips:
        raise RecipeError(
            f"{recipe.distill.unlabelled} holds no clip that is not in {dataset.root}", "give other clips: --unlabelled"
        )
    found = extract_with(
        dataclasses.replace(dataset, clips=tuple(clips.values()), problems=()),
        recipe.clip_spec,
        recipe.make_backbone(),
        weights,
        store_root,
        views=recipe.views,
        memory_limit=recipe.training.memory_limit_gb * 1e9,
    )
    for problem in found.dataset.problems:
        say(f"left out: {problem.path}: {problem.reason}")
    soft = teacher.probabilities(found.dataset)
    hashes = " ".join(clip.sha256 for clip in found.dataset.clips)
    labels = soft.argmax(axis=1).astype(np.int64)
    groups = np.array([clip.path for clip in found.dataset.clips])
    return FeatureSplit(found.to_train_on(), labels, groups, soft, np.zeros(len(labels), bool)), hashes


def _hashed(files: Iterable[Path], advance: Any) -> Iterable[LabelledClip]:
    for file in files:
        yield LabelledClip(str(file.absolute()), 0, "train", "", sha256_of(file))
        advance()
