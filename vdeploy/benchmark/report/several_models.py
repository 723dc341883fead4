"""Benchmarks of several models, measured on one machine, as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from vdeploy.benchmark.record import Benchmark, Environment, Peak, Row
from vdeploy.benchmark.report.ranking import reference_name
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.svg_charts import SERIES

__all__ = ["SeveralModels", "join_benchmarks"]

_MACHINE = ("cpu", "cores", "threads", "memory_bytes", "gpu")
"""What has to be the same in all, so that the times can be compared."""


@dataclasses.dataclass(frozen=True)
class SeveralModels:
    """Benchmarks of several models as one.

    Attributes:
        benchmark: All rows, their names with the model's before them: ``pruned: onnx-int8``.
        models: The benchmark of each model, by its name.
        model_of: The model of each row.
        reference: Name of the rows that ratios refer to, unless another is wanted: the first model's, if it has one.
        same_clips: Whether all rows were judged on the same held-out clips, as far as that is known.
    """

    benchmark: Benchmark
    models: Mapping[str, Benchmark]
    model_of: Mapping[Row, str]
    reference: str | None
    same_clips: bool


def join_benchmarks(benchmarks: Sequence[tuple[Path, Benchmark]]) -> SeveralModels:
    """Join benchmarks of several models.

    A model is called after its run; where runs are called alike, after the folder of its bundle, with as much of the
    path as tells them apart.

    Args:
        benchmarks: Two or more benchmarks, each with the file that it was read from.

    Raises:
        BenchmarkError: They are of different machines or of the same model, or there are more than can be told apart.
    """
    _check(benchmarks)
    given = [benchmark for _, benchmark in benchmarks]
    models = dict(zip(_names(given), given, strict=True))
    model_of = {
        row.model_copy(update={"name": f"{model}: {row.name}"}): model
        for model, benchmark in models.items()
        for row in benchmark.rows
    }
    references = ((model, reference_name(benchmark)) for model, benchmark in models.items())
    digests = {benchmark.held_out_sha256 for benchmark in given}
    joined = given[0].model_copy(
        update={
            "run": ", ".join(models),
            "sha256": {f"{model}/{key}": value for model, one in models.items() for key, value in one.sha256.items()},
            "environment": _environment([one.environment for one in given]),
            "peaks": _peaks([peak for one in given for peak in one.peaks]),
            "rows": tuple(model_of),
        }
    )
    return SeveralModels(
        joined,
        models,
        model_of,
        next((f"{model}: {name}" for model, name in references if name is not None), None),
        len(digests) == 1 and None not in digests,
    )


def _check(benchmarks: Sequence[tuple[Path, Benchmark]]) -> None:
    (path, first), *others = benchmarks
    if len(benchmarks) > len(SERIES):
        raise BenchmarkError(
            f"a page shows {len(SERIES)} models at most, not {len(benchmarks)}", "leave some of the files out"
        )
    seen = {tuple(sorted(first.sha256.items())): path}
    for other, benchmark in others:
        for field in _MACHINE:
            here, there = getattr(first.environment, field), getattr(benchmark.environment, field)
            if here != there:
                raise BenchmarkError(
                    f"{path} and {other} are of different machines ({field}: {here} and {there}), with other times",
                    "measure all on one machine with the same --threads",
                )
        hashes = tuple(sorted(benchmark.sha256.items()))
        if hashes in seen:
            raise BenchmarkError(
                f"{seen[hashes]} and {other} are of the same bundle",
                f"compare them: vdeploy benchmark compare {seen[hashes]} {other}",
            )
        seen[hashes] = other


def _names(benchmarks: Sequence[Benchmark]) -> list[str]:
    """A name for each that no other has: its run, or the end of the path of its bundle."""
    found = [benchmark.run for benchmark in benchmarks]
    parts = [Path(benchmark.bundle).parts for benchmark in benchmarks]
    for length in range(1, max(map(len, parts)) + 1):
        if len(set(found)) == len(found):
            return found
        found = ["/".join(part[-length:]) for part in parts]
    return [f"{name} {number}" for number, name in enumerate(found, start=1)]


def _environment(environments: Sequence[Environment]) -> Environment:
    """That of the first, with all versions of a package where they differ."""
    versions: dict[str, dict[str, None]] = {}
    for environment in environments:
        for package, version in environment.versions.items():
            versions.setdefault(package, {})[version] = None
    joined = {package: " and ".join(found) for package, found in versions.items()}
    return environments[0].model_copy(update={"versions": joined})


def _peaks(peaks: Sequence[Peak]) -> tuple[Peak, ...]:
    """The highest of each data type."""
    best: dict[str, Peak] = {}
    for peak in peaks:
        if peak.data_type not in best or peak.gflops > best[peak.data_type].gflops:
            best[peak.data_type] = peak
    return tuple(best.values())
