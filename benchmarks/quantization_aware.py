"""What quantization-aware training does for INT8: the same fine-tuning with it and without it, both exported.

    python -m benchmarks.quantization_aware DATA [--recipe edge] [--set KEY=VALUE ...] [--seeds 3] [--work DIR]
        [--json] [--out FILE]

A recipe that trains blocks of its backbone is trained with each seed, once as it is and once with
`fine_tune.quantization_aware`. Both are exported to ONNX INT8: the export keeps as many layers in float as verdicts
need, calibrates on clips of the training split, and is compared with Keras on the validation clips. No accuracy is
printed, as these clips chose the epochs of both trainings. What is finished in the work folder is used again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from benchmarks.made_models import made_bundle, made_run
from benchmarks.output import add_output_options, report_result
from training.pipeline import train
from training.recipe import Recipe, load_recipe
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RecipeError, UserError
from vdeploy.core.files import cache_dir
from vdeploy.export.options import ExportOptions
from vdeploy.export.verification.rejected_formats import REJECTED

FLOAT, INT8 = "onnx-fp32", "onnx-int8"


def main() -> None:
    """Reads options, trains, exports, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="edge")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/quantization-aware"))
    parser.add_argument("--store", type=Path, default=cache_dir() / "features")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        recipe = load_recipe(options.recipe, options.set)
        if not recipe.fine_tune.blocks:
            raise RecipeError("no block is trained", "for example --set fine_tune.blocks=5")
        rows = [
            measure(recipe, aware, seed, options)
            for seed, aware in itertools.product(range(options.seeds), (False, True))
        ]
    except UserError as error:
        parser.error(str(error))
    title = f"{options.recipe} on {options.data}, {recipe.fine_tune.blocks} blocks trained, {INT8} beside Keras"
    given = {"data": str(options.data), "recipe": options.recipe, "blocks": recipe.fine_tune.blocks}
    report_result(options, {**given, "seeds": options.seeds, "rows": rows}, "\n".join([title, *map(_line, rows)]))


def measure(recipe: Recipe, aware: bool, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and export once.

    Args:
        recipe: What is trained.
        aware: Whether the blocks learn with eight bits.
        seed: Of the training; the split stays the same.
        options: The parsed options.

    Returns:
        A row: layers in float, and verdicts that INT8 shares with Keras; of a refused INT8 file as well.
    """
    root = options.work / f"{'aware' if aware else 'plain'}-{seed}"
    varied = recipe.varied(
        fine_tune={"quantization_aware": aware}, training={"seed": seed}, data={"seed": recipe.split_seed}
    )
    made_run(root, lambda out: train(options.data, out, varied, store_root=options.store))
    out, chosen = root.with_name(f"{root.name}-bundle"), ExportOptions(store_root=options.store)
    return {"aware": aware, "seed": seed, **_held_out(made_bundle(out, root, f"{FLOAT},{INT8}", chosen))}


def _held_out(bundle: Bundle) -> dict[str, Any]:
    """Figures of the INT8 file, from the bundle or from what the export has rejected."""
    found = bundle.manifest.end_to_end.get(INT8)
    if found is not None:
        details = bundle.artifact("extractor", INT8).details
        figures, layers = found.model_dump(mode="json"), details["kept_in_float"]
        reason = None
    else:
        file = bundle.root.with_name(f"{bundle.root.name}.rejected") / REJECTED
        [rejection] = (one for one in json.loads(file.read_text(encoding="utf-8")) if one["format"] == INT8)
        figures, layers, reason = rejection["evidence"].get("held_out", {}), None, rejection["reason"]
    wanted = ("clips", "agreement", "drift_mean", "drift_max")
    return {
        "layers_in_float": None if layers is None else len(layers),
        "rejected": reason,
        **{name: figures.get(name) for name in wanted},
    }


def _line(row: dict[str, Any]) -> str:
    name = f"{'with' if row['aware'] else 'without'} it, seed {row['seed']}"
    said = "refused" if row["rejected"] else f"{row['layers_in_float']} layers in float"
    if row["agreement"] is None:
        return f"{name:<20} {said}: {row['rejected']}"
    return (
        f"{name:<20} {said:<20} same verdict {row['agreement']:.1%} of {row['clips']}  "
        f"drift {row['drift_mean']:.4f}, {row['drift_max']:.4f} at most"
    )


if __name__ == "__main__":
    main()
