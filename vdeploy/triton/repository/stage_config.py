"""The `ModelConfig` of one stage: backend, instances, batching and warm-up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.repository.backends import ServedStage
from vdeploy.triton.repository.options import LONGEST_WAIT_MS, ServingOptions

__all__ = ["GPU_RESOURCE", "Tensor", "add_step", "add_tensors", "model_config", "stage_config"]

GPU_RESOURCE = "gpu"
"""What an execution on a GPU needs, and each GPU has once, so that two stages that share it take turns. Several
copies of a stage are asked for to run at the same time, so that they do not."""

_TENSORRT_PRECISION = {"onnx-fp32": "FP32", "onnx-fp16": "FP16"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a model, without its batch axis.

    Attributes:
        name: Its name.
        data_type: A value of Triton's `DataType`.
        dims: Its shape; -1 for a free axis.
        sample: Its shape in a warm-up; left out where there is none.
        labels: The file with names of its values, or `""`.
    """

    name: str
    data_type: int
    dims: tuple[int, ...]
    sample: tuple[int, ...] = ()
    labels: str = ""


def model_config(name: str, batch: int, options: ServingOptions) -> Any:
    """What every model has: its name, the largest batch and which versions are loaded; no answer is cached."""
    config = model_config_pb2.ModelConfig(name=name, max_batch_size=batch)
    config.version_policy.latest.num_versions = options.loaded_versions
    config.response_cache.enable = False
    return config


def add_tensors(config: Any, taken: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Adds the inputs and the outputs of a model."""
    for tensor in taken:
        config.input.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    for tensor in given:
        config.output.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, label_filename=tensor.labels)


def add_step(ensemble: Any, model: str, taken: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Adds a stage to an ensemble.

    Args:
        ensemble: Its `ModelConfig`, or one that becomes an ensemble by this.
        model: The stage.
        taken: The ensemble's tensors by the names of the stage's inputs.
        given: The ensemble's tensors by the names of the stage's outputs.
    """
    ensemble.platform = "ensemble"
    ensemble.model_transaction_policy.decoupled = False
    step = ensemble.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    for name, tensor in taken.items():
        step.input_map[name] = tensor
    for name, tensor in given.items():
        step.output_map[name] = tensor


def stage_config(served: ServedStage, taken: Tensor, given: Tensor, batch: int, options: ServingOptions) -> Any:
    """Configures a stage.

    Args:
        served: Its format and backend.
        taken: Its input.
        given: Its output.
        batch: The largest batch of all models.
        options: How it is to be run.

    Returns:
        A `ModelConfig`.

    Raises:
        RepositoryError: The options do not fit the stage.
    """
    config = model_config(served.model, batch, options)
    config.backend = served.backend
    config.default_model_filename = served.files[0]
    config.optimization.input_pinned_memory.enable = True
    config.optimization.output_pinned_memory.enable = True
    add_tensors(config, (taken,), (given,))
    _place(config, served, options)
    _batch(config, served, batch, options)
    if options.accelerate:
        _accelerate(config, served, options)
    for key, value in _parameters(served, options).items():
        config.parameters[key].string_value = str(value)
    _warm_up(config, taken, batch, options)
    return config


def _place(config: Any, served: ServedStage, options: ServingOptions) -> None:
    if served.backend == "python" and options.gpus:
        raise RepositoryError(
            f"the python backend runs the {served.stage} on the CPU and ignores --gpus",
            "choose --backend onnxruntime or tensorrt",
        )
    kinds = model_config_pb2.ModelInstanceGroup
    gpus = options.gpus or ((0,) if served.backend == "tensorrt" else ())
    group = config.instance_group.add(name=f"{served.model}_instances", count=options.instances)
    group.kind = kinds.KIND_GPU if gpus else kinds.KIND_CPU
    group.gpus.extend(gpus)
    if served.backend == "tensorrt":
        group.profile.append("0")
    if gpus and options.instances == 1:
        group.rate_limiter.resources.add(name=GPU_RESOURCE, count=1)
        group.rate_limiter.priority = 2 if served.stage == "extractor" else 1


def _batch(config: Any, served: ServedStage, batch: int, options: ServingOptions) -> None:
    is_extractor = served.stage == "extractor"
    batching = config.dynamic_batching
    batching.preferred_batch_size.append(batch)
    batching.max_queue_delay_microseconds = (
        options.extractor_delay_microseconds if is_extractor else options.classifier_delay_microseconds
    )
    if options.max_queue is not None:
        policy = batching.default_queue_policy
        policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
        policy.max_queue_size = options.max_queue
        policy.allow_timeout_override = True
        # A request may shorten this, and without it Triton ignores what a request says.
        policy.default_timeout_microseconds = round((options.latency_budget_ms or LONGEST_WAIT_MS) * 1000)


def _accelerate(config: Any, served: ServedStage, options: ServingOptions) -> None:
    if served.backend == "tensorrt":
        return
    if served.backend != "onnxruntime" or not options.gpus:
        raise RepositoryError(
            f"--accelerate has no effect on the {served.stage}, which {served.backend} runs on the CPU",
            "add --backend onnxruntime --gpus 0, or leave it out",
        )
    if served.format not in _TENSORRT_PRECISION:
        raise RepositoryError(
            f"--accelerate cannot take the {served.stage} in {served.format}, which is quantized for CPUs",
            "choose onnx-fp16 or onnx-fp32, or export to tensorrt-int8",
        )
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    accelerator.parameters["precision_mode"] = _TENSORRT_PRECISION[served.format]


def _parameters(served: ServedStage, options: ServingOptions) -> dict[str, int]:
    threads = options.threads_of_instance if served.stage == "extractor" else 1
    if served.backend == "python":
        return {"intra_op_num_threads": threads, "max_clips_per_run": 1 if served.stage == "extractor" else 0}
    if served.backend == "onnxruntime":
        arena = {} if options.arena else {"enable_mem_arena": 0}
        return {"intra_op_thread_count": threads, "inter_op_thread_count": 1} | arena
    return {}


def _warm_up(config: Any, taken: Tensor, batch: int, options: ServingOptions) -> None:
    on_gpu = bool(config.instance_group[0].gpus)
    for size in options.warmup_batches or ((1, batch) if on_gpu and batch > 1 else (1,)):
        if size > batch:
            raise RepositoryError(
                f"a warm-up with {size} clips is more than the {batch} of a request", "give smaller batches"
            )
        warm_up = config.model_warmup.add(name=f"batch_{size}", batch_size=size, count=1)
        tensor = warm_up.inputs[taken.name]
        tensor.data_type = taken.data_type
        tensor.dims.extend(taken.sample)
        tensor.zero_data = True
