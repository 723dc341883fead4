"""From a run to a run on a pruned backbone: channels removed, the head trained anew on what is left."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.methods.distillation.lesson import prepare_lesson
from training.methods.pruning.layerwise import prune_layers
from training.methods.pruning.widths import LEAST_KEEP, choose_widths, flops_share
from training.pipeline import extract_source, report_problems, train_on
from training.recipe import Recipe, recipe_of_run
from training.work_folder import refuse_foreign_folder
from vdeploy.artifacts.run import BACKBONE, CLIPS, Run
from vdeploy.core.errors import RunError
from vdeploy.core.files import sha256_of, write_text
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say
from vdeploy.core.templates import percent
from vdeploy.export.calibration import calibration_clips, check_clips, recorded_clips
from vdeploy.models.backbones.vgg19.feature_layers import CONVOLUTIONS, POOLED_BLOCKS
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.fine_tuned import save_fine_tuned

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["prune_run", "prune_weights"]

_FRAMES_PER_CLIP = 2
_CLIPS = 128
_KEY = ".fingerprint"


def prune_run(root: Path, out: Path, *, keep: float, store_root: Path, data: Path | None = None) -> Run:
    """Make a run whose backbone has fewer channels.

    Channels are chosen, and what is left of the backbone is fitted, on frames of training clips. The head is trained
    anew by the run's recipe on the same clips and splits. An interrupted pruning goes on where it stopped.

    Args:
        root: Folder of a run on VGG19.
        out: Folder of the new run; an older run there is kept as ``OUT.previous``.
        keep: Share of the backbone's floating-point operations that stays.
        store_root: Folder of all feature stores.
        data: Where the run's clips lie, if no longer where they were at training.

    Raises:
        RunError: The run's backbone cannot be pruned, or ``keep`` is out of range.
        LockedError: Another process writes there.
        UserError: The clips or the weights have changed, or the disk is full.
    """
    run = Run.load(root)
    _check(run, keep)
    if out.absolute() == run.root.absolute():
        raise RunError(f"{out} is the run itself", "choose another: --out RUN")
    source = data or Path(run.info.source)
    with folder_lock(out, "choose another --out"):
        refuse_foreign_folder(out)
        dataset = recorded_clips(run, source)
        check_clips(run, dataset, dataset.clips)
        work = out.with_name(f"{out.name}.pruning")
        weights, channels = prune_weights(run, keep, work, data=data)
        recipe = _recipe(run, channels, out.absolute() / BACKBONE)
        extraction = extract_source(dataset, recipe, weights, store_root)
        report_problems(extraction)
        lesson = prepare_lesson(recipe, extraction.dataset, weights, store_root)
        pruned = train_on(extraction, weights, source, out, recipe, lesson=lesson)
        shutil.rmtree(work, ignore_errors=True)
    return pruned


def prune_weights(run: Run, keep: float, work: Path, *, data: Path | None = None) -> tuple[Weights, tuple[int, ...]]:
    """Prune the backbone of a run.

    Args:
        run: The run.
        keep: Share of the operations that stays.
        work: Folder to work in; what an interrupted call has left there is gone on with.
        data: Where the run's clips lie, if no longer where they were at training.

    Returns:
        The weights, in a file in ``work``, and the channels of each convolution.
    """
    given = run.weights()
    widths = choose_widths(keep, run.spec.size, run.backbone.settings.layer)
    say(f"prune: {percent(flops_share(widths, run.spec.size))} of the operations stay")
    file = work / BACKBONE
    _open(work, {"weights": given.sha256, "clips": sha256_of(run.root / CLIPS), "widths": widths})
    if not file.is_file():
        network = run.extractor(given).network
        layers = {name: tuple(network.get_layer(name).get_weights()) for name in CONVOLUTIONS}
        seed = recipe_of_run(run.root).training.seed
        pruned = prune_layers(layers, widths, _frames(run, data, seed), work, seed)
        backbone = _recipe(run, tuple(widths.values()), file).make_backbone()
        narrow = FeatureExtractor(backbone, Weights("random", None, ""), run.spec).network
        for name, values in pruned.items():
            narrow.get_layer(name).set_weights(values)
        save_fine_tuned(narrow, file)
    return Weights(f"{given.source}, pruned", file, sha256_of(file)), tuple(widths.values())


def _check(run: Run, keep: float) -> None:
    stage = run.info.stage("extractor")
    if not LEAST_KEEP <= keep <= 1:
        raise RunError(f"--keep {keep:g} is no share from {LEAST_KEEP:g} to 1", "for example --keep 0.35")
    if run.info.members:
        raise RunError(f"{run.root} is an ensemble", "prune one of its members")
    if stage.architecture != "vgg19":
        raise RunError(f"{run.root} is on {run.backbone.title}, and only VGG19 can be pruned", "give a run on vgg19")
    if stage.settings.get("channels"):
        raise RunError(f"{run.root} is pruned already", "prune the run that it was made of, with a smaller --keep")
    if stage.settings.get("layer", "avg") not in POOLED_BLOCKS:
        raise RunError(f"the features of {run.root} are fully connected to all channels", "train on the layer avg")
    if stage.settings.get("region", "full") != "full":
        raise RunError(f"{run.root} looks at a region of the frame", 'train with clip.region = "full"')


def _recipe(run: Run, channels: tuple[int, ...], weights: Path) -> Recipe:
    changes = {"channels": channels, "weights": str(weights)}
    return recipe_of_run(run.root).varied(backbone=changes, pretrain={"trunk": ""})


def _frames(run: Run, data: Path | None, seed: int) -> npt.NDArray[np.uint8]:
    """Frames of training clips in random order, ``uint8[N, H, W, 3]``."""
    clips = calibration_clips(run, data=data, count=_CLIPS, seed=seed)
    frames = np.concatenate([clip[0] for clip in clips.frames(min(_FRAMES_PER_CLIP, run.spec.frames))])
    return frames[np.random.default_rng(seed).permutation(len(frames))]


def _open(work: Path, key: dict[str, object]) -> None:
    """Make the folder to work in; it is emptied if it holds other work."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    try:
        if work.is_dir() and not ((work / _KEY).is_file() and (work / _KEY).read_text(encoding="utf-8") == digest):
            shutil.rmtree(work)
        work.mkdir(parents=True, exist_ok=True)
        write_text(work / _KEY, digest)
    except OSError as error:
        raise RunError(f"cannot write to {work} ({error.strerror or error})", "choose another: --out RUN") from error
