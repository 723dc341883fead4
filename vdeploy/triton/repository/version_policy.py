"""The versions that a `config.pbtxt` makes Triton load, and those of the stages that an ensemble calls.

An ensemble binds the stages of a request when the request begins. With `model_version: -1` it binds whatever is newest
at that moment: while one stage has its new version and the other has not, a request would run through an old extractor
and a new classifier. So a deployment pins the ensemble to version folders of the same number, and one reload of the
ensemble switches both stages for every request at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from vdeploy.core.errors import RepositoryError

__all__ = [
    "backend_of",
    "inputs_of",
    "interface_of",
    "parameters_of",
    "parse_config",
    "pin_ensemble",
    "pin_versions",
    "pinned_version",
    "rename",
]

_HEADER = "# Written by vdeploy; a change here is lost at the next deployment.\n"


def pin_versions(text: str, versions: Iterable[int], others: Iterable[str] = ()) -> str:
    """A configuration with which Triton loads exactly these versions.

    Args:
        text: The configuration.
        versions: The versions.
        others: Configurations of those versions: a request may be as large as any of them allows, because an ensemble
            is unloaded as soon as one of its stages takes smaller ones than it.
    """
    config = parse_config(text)
    config.max_batch_size = max(config.max_batch_size, *(parse_config(other).max_batch_size for other in others), 0)
    config.version_policy.specific.versions[:] = sorted(versions)
    return _render(config)


def rename(text: str, name: str) -> str:
    """A configuration for a model of another name."""
    config = parse_config(text)
    config.name = name
    return _render(config)


def pin_ensemble(text: str, version: int) -> str:
    """The ensemble's configuration with which it has one version, that calls the same version of each stage."""
    config = parse_config(text)
    config.version_policy.specific.versions[:] = [version]
    for step in config.ensemble_scheduling.step:
        step.model_version = version
    return _render(config)


def pinned_version(text: str) -> int | None:
    """The version that `pin_ensemble` has pinned; `None` if none is pinned."""
    config = parse_config(text)
    versions = list(config.version_policy.specific.versions)
    steps = {int(step.model_version) for step in config.ensemble_scheduling.step}
    return int(versions[0]) if len(versions) == 1 and steps == set(versions) else None


def interface_of(text: str) -> tuple[object, ...]:
    """What two versions of a model must share, as they share one configuration: backend and tensors."""
    config = parse_config(text)
    tensors = [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)]
    return (config.backend, config.platform, *tensors)


def inputs_of(text: str) -> dict[str, tuple[int, ...]]:
    """Sizes of the axes of a model's inputs, without the batch, by name; -1 where one is free."""
    return {tensor.name: tuple(tensor.dims) for tensor in parse_config(text).input}


def backend_of(text: str) -> str:
    """The backend of a stage's configuration."""
    return str(parse_config(text).backend)


def parameters_of(text: str) -> dict[str, str]:
    """The parameters of a configuration by name, each a JSON text in an ensemble of vdeploy."""
    return {name: str(entry.string_value) for name, entry in parse_config(text).parameters.items()}


def parse_config(text: str) -> Any:
    """The `ModelConfig` of a text.

    Raises:
        RepositoryError: It cannot be read.
    """
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(
            f"a configuration of the model repository cannot be read ({error})", "write the repository again"
        ) from error


def _render(config: Any) -> str:
    return _HEADER + str(text_format.MessageToString(config, as_utf8=True))
