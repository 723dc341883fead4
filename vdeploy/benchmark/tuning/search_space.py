"""The serving configurations of a bundle that a search may try on this machine."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import BundleError
from vdeploy.triton.names import MAX_BATCH_SIZE
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.format_selection import servable_on_cpu
from vdeploy.triton.planning.tuned_serving import Configuration, LoadKind
from vdeploy.triton.repository.backends import Backend

__all__ = ["SearchSpace", "make_space"]

NO_WAIT_MS = 1.0
"""A latency budget of which so little may be spent waiting for a fuller batch, that it is none."""


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Configurations, and what they are made of.

    Attributes:
        defaults: What is served without a search.
        choices: Values of each field of a configuration.
    """

    defaults: Configuration
    choices: Mapping[str, Sequence[Any]]

    def configurations(self) -> list[Configuration]:
        """All that are worth a trial, in a fixed order."""
        names = list(self.choices)
        made = (
            Configuration(**dict(zip(names, values, strict=True)))
            for values in itertools.product(*self.choices.values())
        )
        return [configuration for configuration in made if self.allows(configuration)]

    def allows(self, configuration: Configuration) -> bool:
        """Whether a configuration is not another one in disguise, and does not ask for cores that there are not."""
        waits = configuration.max_batch == 1 and configuration.latency_budget_ms is not None
        cores = max(self.choices["instance_threads"])
        return not waits and configuration.instances * configuration.instance_threads <= 2 * cores

    def first_trials(self) -> list[Configuration]:
        """What is tried before anything is known: the defaults, then each format, a clip at a time on all cores."""
        least = min(self.choices["max_batch"])
        alone = dataclasses.replace(self.defaults, instances=1, max_batch=least, latency_budget_ms=None)
        each = [
            dataclasses.replace(alone, extractor=name, classifier=name)
            for name in self.choices["extractor"]
            if name in self.choices["classifier"]
        ]
        return list(dict.fromkeys((self.defaults, *each)))


def make_space(
    bundle: Bundle,
    defaults: Configuration,
    where: Surroundings,
    slo_ms: float,
    precision: str | None,
    load: LoadKind = "clips",
) -> SearchSpace:
    """Lists what may be tried: formats of the bundle, all of which passed their checks, that the server runs on a CPU.

    Args:
        bundle: The bundle.
        defaults: What is served without a search.
        where: The server and its machine.
        slo_ms: Latency objective.
        precision: The only precision to try; `None` for all.
        load: What is sent. Streams of a causal extractor are computed by what keeps their windows, in FP32 and one
            copy, so that the extractor's format and copies make no difference.

    Raises:
        BundleError: The bundle holds nothing that the server runs on a CPU.
    """
    install, cores = where.install, where.cores or 1
    has_python = install is None or install.has_backend("python")
    formats = servable_on_cpu(bundle.manifest, precision, runs_openvino=has_python and not where.target.lacks_openvino)
    if not formats:
        wanted = f" in {precision}" if precision else ""
        raise BundleError(f"{bundle.root} holds no format{wanted} that Triton runs on a CPU", "export it to onnx-fp32")
    backends: list[Backend] = ["python"] if has_python else []
    if install is not None and install.has_backend("onnxruntime"):
        backends.append("onnxruntime")
    fixed = load == "streams" and bundle.manifest.stream is not None
    return SearchSpace(
        defaults,
        {
            "backend": sorted({defaults.backend, *backends}),
            "extractor": [defaults.extractor] if fixed else sorted({defaults.extractor, *formats}),
            "classifier": sorted({defaults.classifier, *formats}),
            "instances": [defaults.instances] if fixed else sorted({1, 2, cores}),
            "instance_threads": sorted({1, max(1, cores // 2), cores}),
            "max_batch": sorted({1, 2, 4, MAX_BATCH_SIZE, defaults.max_batch}),
            "latency_budget_ms": [None, NO_WAIT_MS, slo_ms],
        },
    )
