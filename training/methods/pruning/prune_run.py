"""From a run to a run on a pruned backbone: channels removed, the head trained anew on what is left."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.methods.distillation.lesson import prepare_lesson
from training.methods.pruning.channel_graph import ChannelGraph
from training.methods.pruning.layerwise import prune_layers
from training.methods.pruning.widths import LEAST_KEEP, choose_widths, flops_share
from training.pipeline import extract_source, report_problems, train_on
from training.recipe import Recipe, recipe_of_run
from training.recipe_methods import NO_FINE_TUNING
from training.work_folder import refuse_foreign_folder
from vdeploy.artifacts.run import BACKBONE, CLIPS, Run
from vdeploy.core.errors import RunError
from vdeploy.core.files import sha256_of, write_text
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say
from vdeploy.core.templates import percent
from vdeploy.export.calibration import calibration_clips, check_clips, recorded_clips
from vdeploy.models.backbones.narrow import NarrowSettings
from vdeploy.models.base import Backbone
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.region import RegionBackbone
from vdeploy.models.registry import BACKBONES, backbone_of, backbone_type
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.fine_tuned import save_fine_tuned
from vdeploy.video.clips import ClipSpec
from vdeploy.video.wanted_frames import frame_indices

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["prune_run", "prune_weights"]

_FRAMES_PER_CLIP = 2
_CLIPS = 128
"""What a backbone of single frames is fitted on."""

_FRAMES = 4096
"""What a backbone of clips is fitted on, in as many clips as show it so many frames."""

_KEY = ".fingerprint"


def prune_run(root: Path, out: Path, *, keep: float, store_root: Path, data: Path | None = None) -> Run:
    """Make a run whose backbone has fewer channels.

    Channels are chosen, and what is left of the backbone is fitted, on frames of training clips. The head is trained
    anew by the run's recipe on the same clips and splits. An interrupted pruning goes on where it stopped.

    Args:
        root: Folder of a run on VGG19 or I3D.
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
    given, (backbone, spec) = run.weights(), _trunk(run)
    network = FeatureExtractor(backbone, given, spec).network
    graph, seed = ChannelGraph(network), recipe_of_run(run.root).training.seed
    widths = choose_widths(keep, graph)
    say(f"prune: {percent(flops_share(widths, graph))} of the operations stay")
    channels = tuple(widths[name] for name in backbone.settings.convolutions)
    file = work / BACKBONE
    clips = {"clips": sha256_of(run.root / CLIPS), "clip": dict(run.info.clip), "stage": run.backbone.stage_settings}
    _open(work, {"weights": given.sha256, "widths": widths, "seed": seed, **clips})
    if not file.is_file():
        layers = {name: tuple(layer.get_weights()) for name, layer in graph.convolutions.items()}
        pruned = prune_layers(graph, layers, widths, _frames(run, data, seed), work, seed)
        settings = {**backbone.settings.model_dump(), "channels": channels}
        narrow = FeatureExtractor(backbone_of(settings), Weights("random", None, ""), spec).network
        for name, values in pruned.items():
            narrow.get_layer(name).set_weights(values)
        save_fine_tuned(narrow, file)
    return Weights(f"{given.source}, pruned", file, sha256_of(file)), channels


def _check(run: Run, keep: float) -> None:
    if not LEAST_KEEP <= keep <= 1:
        raise RunError(f"--keep {keep:g} is no share from {LEAST_KEEP:g} to 1", "for example --keep 0.35")
    if run.info.members:
        raise RunError(f"{run.root} is an ensemble", "prune one of its members")
    settings = run.backbone.settings
    if not isinstance(settings, NarrowSettings):
        kinds = {name: backbone_type(name) for name in BACKBONES}
        known = {name: kind for name, kind in kinds.items() if issubclass(kind.settings_type, NarrowSettings)}
        titles = " and ".join(kind.title for kind in known.values())
        raise RunError(
            f"{run.root} is on {run.backbone.title}, and only {titles} can be pruned",
            f"give a run on {' or '.join(known)}",
        )
    if settings.channels:
        raise RunError(f"{run.root} is pruned already", "prune the run that it was made of, with a smaller --keep")
    if not settings.features:
        raise RunError(f"the features of {run.root} are fully connected to all channels", "train on the layer avg")


def _recipe(run: Run, channels: tuple[int, ...], weights: Path) -> Recipe:
    """The recipe of the run on the pruned backbone; blocks that it trains have been trained."""
    changes = {"channels": channels, "weights": str(weights)}
    return recipe_of_run(run.root).varied(backbone=changes, pretrain={"trunk": ""}, fine_tune=NO_FINE_TUNING)


def _trunk(run: Run) -> tuple[Backbone[Any], ClipSpec]:
    """The backbone without a region around it, and the clips that it gets."""
    backbone = run.backbone
    if isinstance(backbone, RegionBackbone):
        return backbone.inner, backbone.seen_spec(run.spec)
    return backbone, run.spec


def _frames(run: Run, data: Path | None, seed: int) -> list[npt.NDArray[np.uint8]]:
    """What the backbone sees of training clips, in random order: frames ``uint8[H, W, 3]``, or ``uint8[T, H, W, 3]``.

    Squares that are cut out have whole grey levels again.
    """
    backbone, (trunk, _), frames = run.backbone, _trunk(run), run.spec.frames
    whole, count = trunk.granularity == "clip", min(_FRAMES_PER_CLIP, frames)
    seen = frames * (backbone.views if isinstance(backbone, RegionBackbone) else 1)
    clips = calibration_clips(run, data=data, count=max(1, _FRAMES // seen) if whole else _CLIPS, seed=seed)
    found: list[npt.NDArray[np.uint8]] = []
    for clip in clips.frames(None if backbone.granularity == "clip" else count):
        views = [clip]
        if isinstance(backbone, RegionBackbone):
            views = [np.rint(view).astype(np.uint8) for view in backbone.see(load_tensorflow().cast(clip, "float32"))]
        for view in views:
            found += list(view) if whole else list(view[0][frame_indices(view.shape[1], count)])
    return [found[number] for number in np.random.default_rng(seed).permutation(len(found))]


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
