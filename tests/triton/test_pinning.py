from __future__ import annotations

import pytest
from tritonclient.utils import InferenceServerException

from testing.example_repository import example_files
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.client.retries import is_transient
from vdeploy.triton.repository.version_policy import (
    backend_of,
    interface_of,
    parameters_of,
    pin_ensemble,
    pin_versions,
    pinned_version,
)

EXTRACTOR, ENSEMBLE = (example_files()[f"{name}/config.pbtxt"] for name in ("vgg19_features", "violence_detector"))


def test_an_ensemble_is_pinned_as_a_whole() -> None:
    assert pinned_version(ENSEMBLE) is None
    pinned = pin_ensemble(ENSEMBLE, 7)
    assert pinned_version(pinned) == 7
    assert pinned.count("model_version: 7") == 2
    assert "latest" not in pinned
    assert pinned_version(pin_ensemble(pinned, 8)) == 8
    assert pinned_version(pinned.replace("model_version: 7", "model_version: 6", 1)) is None


def test_a_stage_gets_the_versions_and_keeps_the_rest() -> None:
    pinned = pin_versions(EXTRACTOR, {12, 3})
    assert "versions: 3\n    versions: 12" in pinned
    assert pinned_version(pin_versions(ENSEMBLE, {3})) is None
    assert interface_of(pinned) == interface_of(EXTRACTOR)
    assert backend_of(pinned) == "python"
    assert parameters_of(pinned) == parameters_of(EXTRACTOR)


def test_a_stage_takes_the_largest_request_of_its_versions() -> None:
    larger = EXTRACTOR.replace("max_batch_size: 8", "max_batch_size: 12")
    assert "max_batch_size: 12" in pin_versions(EXTRACTOR, {1, 2}, [EXTRACTOR, larger])
    assert "max_batch_size: 12" in pin_versions(larger, {1, 2}, [EXTRACTOR])
    assert interface_of(larger) == interface_of(EXTRACTOR)


def test_another_interface_is_seen() -> None:
    assert interface_of(EXTRACTOR) != interface_of(EXTRACTOR.replace("dims: 512", "dims: 4096"))
    assert interface_of(EXTRACTOR) != interface_of(EXTRACTOR.replace('"python"', '"onnxruntime"'))


def test_a_broken_configuration_is_one_line() -> None:
    with pytest.raises(RepositoryError, match=r"cannot be read .*write the repository again"):
        pin_versions("max_batch_size: many", {1})


@pytest.mark.parametrize(
    ("status", "message", "transient"),
    [
        ("INTERNAL", "in ensemble 'violence_detector', Stub process 'vgg19_features_0_0' is not healthy.", True),
        ("NOT_FOUND", "Request for unknown model: 'violence_detector' has no available versions", True),
        ("UNAVAILABLE", "failed to connect to all addresses", True),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", True),
        ("INVALID_ARGUMENT", "unexpected shape for input 'frames'", False),
        ("INTERNAL", "onnx runtime error 6: Non-zero status code", False),
    ],
)
def test_what_is_worth_another_attempt(status: str, message: str, transient: bool) -> None:
    assert is_transient(InferenceServerException(message, status=f"StatusCode.{status}")) is transient
