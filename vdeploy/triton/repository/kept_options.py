"""The options with which a repository is served, kept in its configurations so that they outlive a deployment.

Each ensemble has them as its parameter `serving`, in JSON. A version keeps its own in the journal, so going back to it
goes back to how it was run. Repositories of vdeploy 0.2 have no such parameter; there, the configurations tell.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.names import ENSEMBLE_MODEL, WINDOW_MODEL
from vdeploy.triton.repository.options import (
    CLASSIFIER_DELAY_MICROSECONDS,
    CLASSIFIER_SHARE,
    LONGEST_WAIT_MS,
    ServingOptions,
    StreamOptions,
)
from vdeploy.triton.repository.version_policy import parameters_of, parse_config

__all__ = ["OPTIONS_PARAMETER", "options_in", "options_to_dict"]

OPTIONS_PARAMETER = "serving"
"""The parameter of an ensemble that holds the options."""

_THREADS = ("intra_op_num_threads", "intra_op_thread_count")
"""The parameters with the threads of an instance, of the Python backend and of ONNX Runtime's."""


def options_to_dict(options: ServingOptions) -> dict[str, Any]:
    """JSON-ready values, one for each option."""
    return dataclasses.asdict(options)


def options_in(configs: Mapping[str, str]) -> ServingOptions:
    """Reads the options with which configurations were written.

    Args:
        configs: Text of each `config.pbtxt`, the stages first, as `Journal.current_configs` has it.

    Raises:
        RepositoryError: They cannot be read.
    """
    kept = parameters_of(configs[ENSEMBLE_MODEL]).get(OPTIONS_PARAMETER)
    try:
        if kept is not None:
            return TypeAdapter(ServingOptions).validate_python(json.loads(kept))
        return _derived(configs)
    except (ValueError, KeyError, IndexError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
        raise RepositoryError(
            f"the options of the model repository cannot be read ({why})", "write the repository again"
        ) from error


def _derived(configs: Mapping[str, str]) -> ServingOptions:
    extractor, classifier = (parse_config(text) for text in list(configs.values())[:2])
    group, batching = extractor.instance_group[0], extractor.dynamic_batching
    delay = classifier.dynamic_batching.max_queue_delay_microseconds
    queue = batching.default_queue_policy
    limit_ms = queue.default_timeout_microseconds / 1000
    waits_ms = 0.0 if limit_ms == LONGEST_WAIT_MS else limit_ms
    threads = [int(entry.string_value) for name, entry in extractor.parameters.items() if name in _THREADS]
    window = parameters_of(configs[WINDOW_MODEL]) if WINDOW_MODEL in configs else {}
    return ServingOptions(
        instances=group.count,
        threads=sum(threads) * group.count or None,
        gpus=tuple(group.gpus),
        max_batch=extractor.max_batch_size,
        latency_budget_ms=waits_ms
        or (None if delay == CLASSIFIER_DELAY_MICROSECONDS else delay / CLASSIFIER_SHARE / 1000 or None),
        max_queue=queue.max_queue_size or None,
        loaded_versions=extractor.version_policy.latest.num_versions or 1,
        warmup_batches=tuple(entry.batch_size for entry in extractor.model_warmup) or None,
        accelerate=bool(extractor.optimization.execution_accelerators.gpu_execution_accelerator),
        streams=StreamOptions(int(window["max_streams"]), float(window["idle_seconds"])) if window else None,
    )
