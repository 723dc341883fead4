"""Write `triton_repo/`, the example configuration of a bundle with every default.

Renew it with `make triton-repo` when the generator changes; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vdeploy.artifacts.bundle import CLASSES, SCHEMA_VERSION, Manifest, StageInfo, TensorSpec
from vdeploy.core.files import write_text
from vdeploy.triton.names import CONFIG
from vdeploy.triton.repository.backends import ServedStage
from vdeploy.triton.repository.model_configs import LABELS, has_labels, render_configs
from vdeploy.video.clips import ClipSpec

__all__ = ["example_files", "main"]


def example_files() -> dict[str, str]:
    """Text by path inside the repository, without any model."""
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        vdeploy_version="0",
        created="",
        run="example",
        classes=CLASSES,
        threshold=0.5,
        temperature=1.0,
        clip=ClipSpec().to_dict(),
        stages=_stages(),
        metrics={},
        artifacts=(),
    )
    files = {}
    extractor = ServedStage("extractor", "onnx-fp32", "python")
    classifier = ServedStage("classifier", "onnx-fp32", "python")
    for model, text in render_configs(manifest, extractor, classifier).items():
        files[f"{model}/{CONFIG}"] = text
        if has_labels(model):
            files[f"{model}/{LABELS}"] = "".join(f"{name}\n" for name in CLASSES)
    return files


def _stages() -> tuple[StageInfo, ...]:
    clip, features = ("batch", "time", 224, 224, 3), ("batch", "time", 512)
    return (
        StageInfo(
            id="extractor",
            architecture="vgg19",
            settings={"layer": "avg"},
            input=TensorSpec(name="frames", dtype="uint8", shape=clip),
            output=TensorSpec(name="features", dtype="float32", shape=features),
        ),
        StageInfo(
            id="classifier",
            architecture="lstm",
            settings={},
            input=TensorSpec(name="features", dtype="float32", shape=("batch", 16, 512)),
            output=TensorSpec(name="probabilities", dtype="float32", shape=("batch", 2)),
        ),
    )


def main(root: Path) -> None:
    """Writes the files."""
    for path, text in example_files().items():
        write_text(root / path, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
