"""Every study, in the order of RESULTS.md: its commands, and the macro of `sections.md.j2` that shows its result."""

from __future__ import annotations

from typing import Any

from benchmarks.results.sections import section
from benchmarks.results.study import Step, Study, single

__all__ = ["STUDIES"]

_HELD_OUT = (
    *("split", "clips", "agreement", "drift_mean", "accuracy", "reference_accuracy", "roc_auc", "reference_roc_auc"),
)


def _without_bulk(output: dict[str, Any]) -> dict[str, Any]:
    """Reduces the manifest of an export to the accuracy of both stages together, and sizes."""
    extractors = [each for each in output["artifacts"] if each["stage"] == "extractor"]
    return {
        "left_out": output["left_out"],
        "rejected": output["rejected"],
        "end_to_end": {name: {key: each[key] for key in _HELD_OUT} for name, each in output["end_to_end"].items()},
        "extractor_bytes": {each["format"]: each["bytes"] for each in extractors},
        "executed": {each["format"]: each["parity"]["executed"] for each in extractors},
    }


def _study(name: str, title: str, steps: dict[str, str]) -> Study:
    made = tuple(Step(step, command) for step, command in steps.items())
    return Study(name, title, made, section(name.replace("-", "_")))


_TRAINING = "python -m benchmarks.training --epochs 3"
_MEMORY = "python -m benchmarks.export_memory"
_ON_TIMELINE = "--bundle {bundle} {data} --format onnx-int8"

_BY_SOURCE = {
    "accurate": "accurate",
    "accurate, no mirror images": "accurate --set clip.mirrored=false",
    "accurate, layer normalisation": "accurate --set head.normalization=layer",
    "accurate, neither": "accurate --set head.normalization=layer --set clip.mirrored=false",
    "edge": "edge",
    "two-stream": "two-stream",
    "default": "default",
}

_METHODS = (
    "square roots of features",
    "mirror images",
    "motion region",
    "three samplings",
    "augmented views",
    "class weights",
    "label smoothing",
    "confident learning",
)
"""Methods that a linear head knows which is solved for exactly."""

_METHODS_IN_STEPS = (
    "class-balanced sampling",
    "focal loss",
    "mixup",
    "frame jitter",
    "frame drop",
    "dropout",
    "weight decay",
    "warm-up and cosine",
    "average of weights",
    "curriculum",
)
"""Methods of a training in steps."""

_BLOCKS = "--set training.epochs=12 --set optimizer.warmup_epochs=1"
_SMALL_PICTURES = "--set fine_tune.blocks=5 --set clip.frames=8 --set clip.size=112"

_TRAINED_BLOCKS = {
    "accurate": f"vdeploy ablate {{data}} --recipe accurate --set clip.mirrored=false {_BLOCKS} "
    "--set optimizer.learning_rate=1e-4 --method 'fine-tuned blocks'",
    "edge": f"vdeploy ablate {{data}} --recipe edge {_SMALL_PICTURES} {_BLOCKS} --method 'fine-tuned blocks' "
    "--method 'temporal shift'",
}

_AUGMENTED = "vdeploy ablate {data} --recipe edge --method 'augmented views'"

STUDIES = (
    single("features", "Feature extraction", "python -m benchmarks.features --clips 24", section("features")),
    single("training", "Training", _TRAINING, section("training")),
    single("gpu-training", "Training on a GPU", _TRAINING, section("training"), gpu=True),
    _study(
        "accuracy",
        "Accuracy on the Hockey Fight clips",
        {f"seed {seed}": f"vdeploy train {{data}} --recipe vgg19 --set training.seed={seed}" for seed in range(3)},
    ),
    _study(
        "hockey",
        "Accuracy on the Hockey Fight clips of linear recipes",
        {
            "accurate": "vdeploy train {data} --recipe accurate",
            "accurate, no mirror images": "vdeploy train {data} --recipe accurate --set clip.mirrored=false",
            "accurate, layer normalisation": "vdeploy train {data} --recipe accurate --set head.normalization=layer",
            "edge": "vdeploy train {data} --recipe edge",
        },
    ),
    *(
        Study(
            name,
            f"Accuracy by source: {title}",
            tuple(
                Step(step, f"python -m benchmarks.cross_validation {{data}} --recipe {options}")
                for step, options in _BY_SOURCE.items()
            ),
            section("by_source"),
        )
        for name, title in (("surveillance", "surveillance cameras"), ("crowd", "crowds"))
    ),
    _study("fine-tuning", "Blocks that are trained, by source: surveillance cameras", _TRAINED_BLOCKS),
    single(
        "cutmix",
        "Mixtures of clips, by source: surveillance cameras",
        "vdeploy ablate {data} --recipe edge --method mixup --method cutmix",
        section("cutmix"),
    ),
    single(
        "label-efficiency",
        "Pre-training where few clips are labelled: surveillance cameras",
        "python -m benchmarks.label_efficiency {data}",
        section("label_efficiency"),
    ),
    _study(
        "augmented-views",
        "Augmented views by source: surveillance cameras",
        {"solved exactly": _AUGMENTED, "trained by AdamW": f"{_AUGMENTED} --set optimizer.solver=adamw"},
    ),
    _study(
        "datasets",
        "Inside data sets and across them",
        {
            "datasets": "python -m benchmarks.datasets {data} --recipe accurate --recipe two-stream --recipe edge",
            "default": "python -m benchmarks.datasets {data} --recipe default",
        },
    ),
    _study(
        "imbalance",
        "A rare class",
        {
            recipe: f"python -m benchmarks.imbalance {{data}} --seeds 5 --recipe {recipe}"
            for recipe in ("default", "vgg19")
        },
    ),
    single("ablation", "What each method adds", "vdeploy ablate {data} --seeds 3", section("ablation")),
    _study(
        "methods",
        "What each method adds to accurate: surveillance cameras",
        {
            step: " ".join(["vdeploy ablate {data} --recipe accurate", *(f"--method '{name}'" for name in names)])
            for step, names in {"methods": _METHODS, "in steps": _METHODS_IN_STEPS}.items()
        },
    ),
    single(
        "quantization-aware",
        "Quantization-aware training",
        "python -m benchmarks.quantization_aware {data} --set fine_tune.blocks=5 --set clip.frames=4 "
        "--set clip.size=112 --set training.epochs=3",
        section("quantization_aware"),
    ),
    single(
        "variants",
        "A pruned model and a student beside the original",
        "python -m benchmarks.variants {run}",
        section("variants"),
    ),
    _study(
        "pruning",
        "Pruned backbones",
        {
            "VGG19, hockey": "python -m benchmarks.pruning {run} {data} --keep 0.35 0.2",
            "I3D, surveillance": "python -m benchmarks.pruning {run} {data} --split test --keep 0.5",
        },
    ),
    single(
        "exports",
        "Exports",
        "vdeploy export {run} --format all --target-sm 89,86 --clips 100 --report",
        section("exports"),
        keep=_without_bulk,
    ),
    _study(
        "export-memory",
        "Memory of an export",
        {name: f"{_MEMORY} --format {name}" for name in ("onnx-fp32", "onnx-fp16", "onnx-int8")}
        | {"all": f"{_MEMORY} {{run}} --format all --limit-gb 5"},
    ),
    single(
        "inference",
        "Scoring clips, every precision and runtime",
        "python -m benchmarks.inference {bundle} --data {data}",
        section("inference"),
    ),
    single("models", "Speed of the models", "python -m benchmarks.models", section("models")),
    single("cameras-per-core", "Cameras a core", "python -m benchmarks.cameras_per_core", section("cameras_per_core")),
    _study(
        "motion-crop",
        "The motion crop",
        {
            "scenes": "python -m benchmarks.motion_crop --no-cost",
            "cost": "python -m benchmarks.motion_crop --no-scenes",
        },
    ),
    single(
        "gpu-inference",
        "Scoring clips on a GPU",
        "vdeploy benchmark {bundle} --what pipeline --batch 1,8 --data {data}",
        section("in_process"),
        gpu=True,
    ),
    single(
        "served",
        "Scoring clips through Triton",
        "vdeploy benchmark {bundle} --what pipeline --format onnx-fp32,onnx-int8 --serve --concurrency 1,2,4",
        section("served"),
    ),
    single("timeline", "Long videos", f"python -m benchmarks.timeline {_ON_TIMELINE}", section("timeline")),
    single("events", "Events in long videos", f"python -m benchmarks.events {_ON_TIMELINE}", section("events")),
    _study(
        "streams",
        "Windows that the server keeps",
        {
            name: f"python -m benchmarks.streams {{bundle}} --frames 32 --format {name}"
            for name in ("onnx-fp32", "onnx-int8")
        },
    ),
    _study(
        "rollout",
        "Rollouts under load",
        {f"seed {seed}": f"python -m benchmarks.rollout --seed {seed}" for seed in range(2)},
    ),
    _study(
        "instances",
        "Several Tritons behind nginx",
        {
            "1 and 2": "python -m benchmarks.instances --instances 1 2 --seconds 6",
            "4": "python -m benchmarks.instances --instances 4 --seconds 6",
        },
    ),
    _study(
        "gateway",
        "Gateway",
        {
            "closed loop": "python -m benchmarks.gateway --seconds 5",
            "90 a second": "python -m benchmarks.gateway --rate 90 --seconds 8",
            "100 a second": "python -m benchmarks.gateway --rate 100 --seconds 8",
            "soak": "python -m benchmarks.gateway --soak 10",
            "mutations": "python -m benchmarks.mutations --count 1000",
        },
    ),
    _study(
        "tune-serving",
        "Serving that was tuned",
        {
            name: f"vdeploy tune-serving {{bundle}} --slo-p99-ms 300 --trials 8 --out studies/{name}"
            for name in ("first", "second")
        },
    ),
    single(
        "extractor-memory",
        "Memory of an extractor",
        "python -m benchmarks.extractor_memory {bundle} --batches 1,2,4",
        section("extractor_memory"),
    ),
    single("overload", "More load than can be served", "python -m benchmarks.overload", section("overload")),
    _study("attacks", "Gateway beside attackers", {"soak": "python -m benchmarks.attacks --soak 10"}),
    _study(
        "comparing",
        "Telling change from noise",
        {
            "simulated": "python -m benchmarks.compare_power",
            "reruns": "python -m benchmarks.compare_reruns {bundle} --seconds 2 --what extractor,classifier,pipeline",
        },
    ),
)
