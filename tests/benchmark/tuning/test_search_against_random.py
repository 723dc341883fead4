"""At equal trials, the search finds better configurations than random search, on models of servers.

A whole space cannot be measured, as a configuration takes minutes; a formula gives what each would hold.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from testing.format_copies import with_formats
from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.tuning.test_serving_search import DEFAULTS
from vdeploy.benchmark.capacity.queueing import highest_load
from vdeploy.benchmark.tuning.search import Outcome, Search
from vdeploy.benchmark.tuning.search_space import SearchSpace, make_space
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.tuned_serving import Configuration, HeldRate
from vdeploy.triton.repository.options import ServingOptions

CORES = 4
SLO_MS = 300.0
TRIALS = 12
DRAWS = 50


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    formats = ("onnx-fp16", "onnx-int8", "openvino-fp32", "openvino-int8")
    bundle = with_formats(make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "b"), *formats)
    defaults = dataclasses.replace(DEFAULTS, instance_threads=CORES)
    return make_space(bundle, defaults, Surroundings(cores=CORES), SLO_MS, None)


class Server:
    """A model of a server: seconds of a batch by Amdahl's law and a fixed part; for the wait, see `queueing`.

    Args:
        space: What may be served.
        seed: Of the speeds of formats, of how they use threads and batches, and of the errors of measurement.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._clip_s = {name: self._random.lognormal(np.log(0.08), 0.5) for name in space.choices["extractor"]}
        self._head_s = {name: self._random.lognormal(np.log(0.002), 0.5) for name in space.choices["classifier"]}
        self._parallel, self._per_batch = self._random.uniform(0.6, 0.98), self._random.uniform(0.0, 0.3)

    def rate(self, configuration: Configuration) -> float:
        """Clips a second that hold the objective."""
        threads, copies, batch = configuration.instance_threads, configuration.instances, configuration.max_batch
        crowding = max(1.0, threads * copies / CORES)
        wait = ServingOptions(latency_budget_ms=configuration.latency_budget_ms).extractor_delay_microseconds / 1e6
        clip = self._clip_s[configuration.extractor] * (1 - self._parallel + self._parallel / threads) * crowding
        whole = clip * (self._per_batch + (1 - self._per_batch) * batch) + self._head_s[configuration.classifier]
        left = SLO_MS / 1000 - (wait if batch > 1 else 0.0)
        return float(copies * batch * highest_load(whole, left)) if whole < left else 0.0

    def __call__(self, configuration: Configuration, *, confirm: bool) -> Outcome:
        assert not confirm
        error = self._random.normal(1.0, 0.03)
        return Outcome(HeldRate(clips_per_s=self.rate(configuration) * error))


def by_random_search(server: Server, space: SearchSpace, first: list[Configuration]) -> float:
    """The mean of the true rates of what random searches that begin with some configurations take for the best."""
    others = [one for one in space.configurations() if one not in first]
    rates = []
    for draw in range(DRAWS):
        tried = [*first, *random.Random(draw).sample(others, TRIALS - len(first))]
        rates.append(server.rate(max(tried, key=lambda one: server(one, confirm=False).held.clips_per_s)))
    return float(np.mean(rates))


@pytest.mark.slow
def test_it_beats_random_search_at_equal_trials(space: SearchSpace, tmp_path: Path) -> None:
    found, drawn, drawn_later = [], [], []
    for seed in range(10):
        server = Server(space, seed)
        optimum = max(map(server.rate, space.configurations()))
        search = Search(tmp_path / str(seed) / "trials.db", space, "throughput", {})
        search.run(server, TRIALS)
        found.append(server.rate(search.best.configuration) / optimum)
        drawn.append(by_random_search(server, space, [space.defaults]) / optimum)
        drawn_later.append(by_random_search(server, space, space.first_trials()) / optimum)
    shares = f"of the optimum: {np.round(found, 2)}, random {np.round(drawn, 2)}, later {np.round(drawn_later, 2)}"
    assert np.mean(found) > np.mean(drawn) + 0.1, shares
    assert sum(one > other for one, other in zip(found, drawn, strict=True)) >= 8, shares
    assert np.mean(found) > np.mean(drawn_later), f"the model adds nothing to the first trials: {shares}"
