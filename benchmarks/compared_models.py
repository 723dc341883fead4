"""The models that benchmarks compare: recipes trained on generated clips and exported, in a folder that is kept."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from training.model_choice.candidates import find_candidates
from training.model_choice.speed import export_candidate
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import BundleError
from vdeploy.core.files import cache_dir
from vdeploy.core.progress import say
from vdeploy.dataset import scan
from vdeploy.synthetic import synthesize

__all__ = ["REFERENCE", "add_model_options", "compared_models"]

REFERENCE = "default"
"""Recipe of VGG19, which the others are compared with."""

_RECIPES = (REFERENCE, "edge", "accurate")

_CLIPS = 24


def add_model_options(parser: argparse.ArgumentParser, formats: str) -> None:
    """Adds the options that `compared_models` reads.

    Args:
        parser: The parser.
        formats: Formats to measure unless the user names others, separated by commas.
    """
    parser.add_argument("--recipes", default=",".join(_RECIPES), help="recipes, separated by commas (%(default)s)")
    parser.add_argument("--format", default=formats, help="formats, separated by commas (%(default)s)")
    parser.add_argument("--work", type=Path, default=cache_dir() / "compared-models", help="folder of runs and bundles")


def compared_models(options: argparse.Namespace) -> dict[str, Bundle]:
    """Trains and exports each recipe; what the folder holds already is taken as it is.

    The classifiers have learned from few generated clips: the bundles are for measuring speed.

    Args:
        options: The options of `add_model_options`.

    Returns:
        Bundles by recipe.

    Raises:
        UserError: A recipe is unknown, weights cannot be had, or no format could be exported.
    """
    work: Path = options.work
    wanted = options.format.split(",")
    clips = work / "clips.csv"
    found = {}
    candidates, left_out = find_candidates(options.recipes.split(","), ())
    for name, reason in left_out.items():
        say(f"{name} is left out: {reason}")
    for candidate in candidates:
        folder = work / candidate.name
        held = _held(folder / "bundle")
        missing = [name for name in wanted if held is None or name not in held.manifest.formats]
        if missing:
            if not clips.exists():
                _draw_clips(work / "clips", clips)
            held, refused = export_candidate(candidate, clips, folder, work / "features", ",".join(missing))
            for name, reason in refused.items():
                say(f"{candidate.name}: no {name}: {reason}")
        if held is not None:
            found[candidate.name] = held
    return found


def _draw_clips(folder: Path, csv: Path) -> None:
    synthesize(folder, clips=_CLIPS)
    drawn = scan(folder)
    clips = tuple(dataclasses.replace(clip, path=str(drawn.absolute(clip))) for clip in drawn.clips)
    dataclasses.replace(drawn, clips=clips).write_csv(csv)


def _held(folder: Path) -> Bundle | None:
    try:
        return Bundle(folder)
    except BundleError:
        return None
