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
    "inherit_settings",
    "interface_of",
    "parameters_of",
    "pin_ensemble",
    "pin_versions",
    "pinned_version",
]

_SETTINGS = ("instance_group", "dynamic_batching", "optimization", "model_warmup", "response_cache")
"""How a model is run, beside what it computes."""

_REPEATED = ("instance_group", "model_warmup")
"""Those of them that are lists."""

_HEADER = "# Written by vdeploy; a change here is lost at the next deployment.\n"


def pin_versions(text: str, versions: Iterable[int]) -> str:
    """A configuration with which Triton loads exactly these versions."""
    config = _parse(text)
    config.version_policy.specific.versions[:] = sorted(versions)
    return _render(config)


def pin_ensemble(text: str, version: int) -> str:
    """The ensemble's configuration with which it has one version, that calls the same version of each stage."""
    config = _parse(text)
    config.version_policy.specific.versions[:] = [version]
    for step in config.ensemble_scheduling.step:
        step.model_version = version
    return _render(config)


def pinned_version(text: str) -> int | None:
    """The version that `pin_ensemble` has pinned; `None` if none is pinned."""
    config = _parse(text)
    versions = list(config.version_policy.specific.versions)
    steps = {int(step.model_version) for step in config.ensemble_scheduling.step}
    return int(versions[0]) if len(versions) == 1 and steps == set(versions) else None


def inherit_settings(text: str, old: str) -> str:
    """A configuration that runs its model as another one did: instances, GPUs, batching, warm-up."""
    config, before = _parse(text), _parse(old)
    for name in _SETTINGS:
        config.ClearField(name)
        value = getattr(before, name)
        if name in _REPEATED:
            getattr(config, name).extend(value)
        elif before.HasField(name):
            getattr(config, name).CopyFrom(value)
    return _render(config)


def interface_of(text: str) -> tuple[object, ...]:
    """What two versions of a model must share, as they share one configuration: backend, batch size and tensors."""
    config = _parse(text)
    tensors = [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)]
    return (config.backend, config.platform, config.max_batch_size, *tensors)


def backend_of(text: str) -> str:
    """The backend of a stage's configuration."""
    return str(_parse(text).backend)


def parameters_of(text: str) -> dict[str, str]:
    """The parameters of a configuration by name, each a JSON text in an ensemble of vdeploy."""
    return {name: str(entry.string_value) for name, entry in _parse(text).parameters.items()}


def _parse(text: str) -> Any:
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(
            f"a configuration of the model repository cannot be read ({error})", "write the repository again"
        ) from error


def _render(config: Any) -> str:
    return _HEADER + str(text_format.MessageToString(config, as_utf8=True))
