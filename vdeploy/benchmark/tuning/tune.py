"""Tune the serving of a bundle on this machine, as `vdeploy tune-serving` does."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdeploy import __version__
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.tuning.arrivals import PARTS, Arrivals
from vdeploy.benchmark.tuning.highest_rate import HighestRate, find_highest_rate, mean_rate
from vdeploy.benchmark.tuning.search import Measure, Outcome, Search, Trial
from vdeploy.benchmark.tuning.search_space import SearchSpace, make_space
from vdeploy.benchmark.tuning.senders import refuse_load, requests_per_clip
from vdeploy.benchmark.tuning.trial_server import TrialServer, open_running_server, open_trial_server
from vdeploy.core.errors import BenchmarkError, UserError
from vdeploy.core.processor import cpu_name
from vdeploy.core.progress import say
from vdeploy.core.timestamps import now
from vdeploy.inference.format_speeds import load_speeds
from vdeploy.inference.machine_record import save_record
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.memory import usable_memory
from vdeploy.triton.planning.plans import StageRequest, plan_serving
from vdeploy.triton.planning.server_facts import find_target
from vdeploy.triton.planning.tuned_serving import Configuration, Goal, HeldRate, LoadKind, TunedServing
from vdeploy.triton.repository.backends import common_batch
from vdeploy.triton.server.install import find_install

__all__ = ["Tuned", "TuningRequest", "measure_server", "tune_serving"]

STUDY = "trials.db"
START_SHARE = 0.6
"""Where a search begins, of the rate that copies which never waited would hold."""


@dataclasses.dataclass(frozen=True)
class TuningRequest:
    """What `vdeploy tune-serving` is asked for.

    Attributes:
        slo_ms: What 99 % of the requests may take.
        arrivals: When requests arrive.
        goal: Most clips a second, or most clips a second of processor time.
        trials: Configurations to measure.
        requests: Requests of each rate that is tried, at least.
        precision: The only precision to try; `None` for all.
        load: What the requests hold.
    """

    slo_ms: float
    arrivals: Arrivals
    goal: Goal = "throughput"
    trials: int = 12
    requests: int = 200
    precision: str | None = None
    load: LoadKind = "clips"


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        record: The winner, as it is kept.
        trials: All that was measured, the best first.
    """

    record: TunedServing
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        trials = [{**dataclasses.asdict(trial.configuration), **trial.outcome.to_dict()} for trial in self.trials]
        return {**self.record.model_dump(mode="json"), "measured_trials": trials}


def tune_serving(bundle: Bundle, request: TuningRequest, out: Path) -> Tuned:
    """Measures configurations on a Triton of this machine, and keeps the best; an interrupted search resumes.

    The winner and the defaults are measured once more, by arrivals that have chosen nothing; if it does not lead
    there as well, the defaults are kept.

    Args:
        bundle: The bundle.
        request: What is searched for.
        out: Folder of the trials.

    Raises:
        MissingExtraError: Optuna is not installed.
        StudyError: The folder holds another search, or cannot be written.
        BenchmarkError: No configuration holds the objective, or none by other arrivals; or the bundle takes no
            such load.
        BundleError: The bundle holds nothing that the server runs on a CPU.
        ServerError: There is no Triton server.
    """
    refuse_load(request.load, bundle)
    if (load := os.getloadavg()[0]) > available_cores() / 2:
        say(f"tuning: the load average is {load:.1f}; what else runs on this machine lowers the rates")
    install = find_install()
    where = Surroundings(
        find_target(install), install, cores=available_cores(), memory=usable_memory(), speeds=load_speeds(bundle)
    )
    defaults = _defaults(bundle, where, request.precision)
    space = make_space(bundle, defaults, where, request.slo_ms, request.precision, request.load)
    identity = {
        "bundle": bundle.manifest.digest,
        "machine": f"{cpu_name()}, {available_cores()} cores",
        "objective": request.slo_ms,
        "arrivals": request.arrivals.name,
        "number of requests": request.requests,
        **({} if request.load == "clips" else {"load": request.load}),
    }
    search = Search(out / STUDY, space, request.goal, identity)

    def measure(configuration: Configuration, *, confirm: bool) -> Outcome:
        return _measure(bundle, configuration, request, where, confirm=confirm)

    search.run(measure, request.trials)
    best = search.best
    if not best.outcome.held.clips_per_s:
        raise BenchmarkError(
            f"no configuration holds a p99 of {request.slo_ms:g} ms ({best.outcome.problem})",
            "allow more with --slo-p99-ms, or export a faster format",
        )
    record = _record(bundle, request, search, space, measure)
    if not record.held.clips_per_s:
        raise BenchmarkError(
            f"{best.configuration} held {best.outcome.held}, but nothing by other arrivals of the kind",
            "try again on a quiet machine, with more --requests and another --out",
        )
    save_record(record)
    ordered = sorted(search.trials, key=lambda trial: -trial.outcome.value(request.goal))
    return Tuned(record, tuple(ordered))


def _defaults(bundle: Bundle, where: Surroundings, precision: str | None) -> Configuration:
    """What `vdeploy serve` takes without a search."""
    plan = plan_serving(bundle, Path("none"), StageRequest(precision=precision), where)
    return Configuration(
        backend=plan.extractor.backend,
        extractor=plan.extractor.format,
        classifier=plan.classifier.format,
        instances=plan.options.instances,
        instance_threads=where.cores or 1,
        max_batch=common_batch(plan.stages, plan.options.max_batch),
        latency_budget_ms=plan.options.latency_budget_ms,
    )


def measure_server(bundle: Bundle, request: TuningRequest, url: str) -> Outcome:
    """Measures the rate that a running server holds, as it is, with three sets of arrivals.

    Args:
        bundle: What it serves.
        request: Objective and load; nothing is searched.
        url: `HOST:PORT` of its gRPC interface, or of a front of several.

    Raises:
        ClientError: It does not answer, serves another bundle, or keeps no streams.
        BenchmarkError: It holds the objective at no rate, or the bundle takes no such load.
    """
    refuse_load(request.load, bundle)
    with open_running_server(bundle, url, request.load) as server:
        found = _rates(server, request, 1.0, range(1, PARTS))
    outcome = _outcome(found, 0.0, requests_per_clip(request.load, bundle))
    if not outcome.held.clips_per_s:
        raise BenchmarkError(f"{url} holds a p99 of {request.slo_ms:g} ms at no rate ({outcome.problem})")
    return outcome


def _measure(
    bundle: Bundle, configuration: Configuration, request: TuningRequest, where: Surroundings, *, confirm: bool
) -> Outcome:
    per_clip = requests_per_clip(request.load, bundle)
    try:
        with open_trial_server(bundle, configuration, where, request.load) as server:
            if 1000 * server.request_s > request.slo_ms:
                return Outcome.failed(f"a request alone takes {1000 * server.request_s:.0f} ms")
            copies = min(configuration.instances, (where.cores or 1) / configuration.instance_threads)
            found = _rates(server, request, copies, range(1, PARTS) if confirm else range(1))
            cpu = per_clip * server.cpu_s / server.requests
    except UserError as error:
        return Outcome.failed(str(error))
    return _outcome(found, cpu, per_clip)


def _rates(server: TrialServer, request: TuningRequest, copies: float, parts: Sequence[int]) -> list[HighestRate]:
    """The highest rate by each of the parts of the arrivals, in requests a second."""
    start, slo, arrivals = START_SHARE * copies / server.request_s, request.slo_ms, request.arrivals

    def find(part: int, begin: float) -> HighestRate:
        return find_highest_rate(lambda rate: server.load(rate, arrivals, request.requests, slo, part), begin, slo)

    found: list[HighestRate] = []
    for part in parts:
        found.append(find(part, start))
        start = found[-1].per_s or start  # the next arrivals of the kind are held up to a rate nearby
    return found


def _outcome(found: Sequence[HighestRate], cpu: float, per_clip: int) -> Outcome:
    """The outcome of one search, or the mean of several, in clips."""
    first, rates = found[0], [each.per_s / per_clip for each in found]
    rate, low, high = mean_rate(rates) if len(found) > 1 else (rates[0], None, None)
    p99 = max(each.p99_ms for each in found)
    held = HeldRate(
        clips_per_s=rate, low=low, high=high, p99_ms=p99 if math.isfinite(p99) else None, cpu_s_per_clip=cpu or None
    )
    points = tuple(
        (load.rate / per_clip, load.p99_ms if math.isfinite(load.p99_ms) else None, load.stopped)
        for load in first.loads
    )
    errors = [load.error for load in first.loads if load.error]
    problem = "" if rate else (errors[0] if errors else "the objective is missed at every rate")
    return Outcome(held, points, problem)


def _record(
    bundle: Bundle, request: TuningRequest, search: Search, space: SearchSpace, measure: Measure
) -> TunedServing:
    """The winner, with the rates that it and the defaults hold under arrivals that have chosen nothing."""
    best, usual = search.best.configuration, search.confirmed(space.defaults, measure)
    confirmed = search.confirmed(best, measure)
    if usual.value(request.goal) >= confirmed.value(request.goal):  # what led in the search, led by chance
        best, confirmed = space.defaults, usual
    return TunedServing(
        bundle_sha256=bundle.manifest.digest,
        cpu=cpu_name(),
        cores=available_cores(),
        vdeploy_version=__version__,
        measured=now(),
        slo_p99_ms=request.slo_ms,
        goal=request.goal,
        load=request.load,
        arrivals=request.arrivals.name,
        requests=request.requests,
        trials=len(search.trials),
        configuration=best,
        held=confirmed.held,
        defaults=space.defaults,
        defaults_held=usual.held,
    )
