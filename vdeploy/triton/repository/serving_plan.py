"""What is served, by which backends and with which options: planned once, then checked, then written."""

from __future__ import annotations

import dataclasses

from vdeploy.artifacts.bundle import Artifact, Bundle
from vdeploy.triton.repository.backends import BackendChoice, ServedStage, served_stage
from vdeploy.triton.repository.model_configs import render_configs
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.server.install import TritonInstall

__all__ = ["ServingPlan", "make_plan"]


@dataclasses.dataclass(frozen=True)
class ServingPlan:
    """A bundle as Triton is to serve it.

    Attributes:
        bundle: The bundle; opening it has checked every hash.
        extractor: Format and backend of the extractor.
        classifier: Format and backend of the classifier.
        options: How the models are run.
        reason: Why no engine is served although there is a GPU; empty where that does not apply.
        speed_reason: What was measured of these formats and others; empty where nothing chose by that.
    """

    bundle: Bundle
    extractor: ServedStage
    classifier: ServedStage
    options: ServingOptions = dataclasses.field(default_factory=ServingOptions)
    reason: str = ""
    speed_reason: str = ""

    @property
    def stages(self) -> tuple[ServedStage, ...]:
        """Both stages, in the order in which a clip passes them."""
        return self.extractor, self.classifier

    @property
    def needs_threads(self) -> bool:
        """Whether several instances of the extractor would each take all cores, as nothing says how many."""
        options = self.options
        on_cpu = self.extractor.backend == "onnxruntime" and not options.gpus
        return on_cpu and options.instances > 1 and options.threads is None

    def artifact(self, served: ServedStage) -> Artifact:
        """The bundle's artifact of a stage."""
        return self.bundle.artifact(served.stage, served.format)

    def configs(self) -> dict[str, str]:
        """Text of the `config.pbtxt` of each model, an ensemble after what it is made of.

        Raises:
            RepositoryError: The options do not fit the stages.
        """
        return render_configs(self.bundle.manifest, self.extractor, self.classifier, self.options)


def make_plan(
    bundle: Bundle,
    *,
    backend: BackendChoice = "python",
    classifier_backend: BackendChoice | None = None,
    install: TritonInstall | None = None,
    extractor: str = "onnx-fp32",
    classifier: str = "onnx-fp32",
    options: ServingOptions | None = None,
    reason: str = "",
    speed_reason: str = "",
) -> ServingPlan:
    """Plans to serve a bundle in given formats.

    Args:
        bundle: The bundle.
        backend: What runs the stages; `"auto"` takes TensorRT for engines and ONNX Runtime's own backend for ONNX files
            where `install` has it.
        classifier_backend: What runs the classifier; `None` for `backend`.
        install: The server that will read the repository; only `"auto"` looks at it.
        extractor: The extractor's format in the bundle.
        classifier: The classifier's format in the bundle.
        options: How the models are run; `None` for the defaults.
        reason: Why no engine is served; see `ServingPlan`.
        speed_reason: What was measured of the formats.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Triton cannot serve a format, or not with that backend.
    """
    first = served_stage(bundle.artifact("extractor", extractor), backend, install)
    second = served_stage(bundle.artifact("classifier", classifier), classifier_backend or backend, install)
    stage = bundle.manifest.extractor
    first = dataclasses.replace(
        first,
        architecture=stage.architecture,
        variant=stage.variant,
        granularity=stage.granularity,
        past_frames=bundle.manifest.past_frames or 0,
        has_stream=bundle.manifest.stream is not None,
    )
    second = dataclasses.replace(second, architecture=bundle.manifest.classifier.architecture)
    return ServingPlan(bundle, first, second, options or ServingOptions(), reason, speed_reason)
