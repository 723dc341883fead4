"""A search finds the best configuration, goes on where it was interrupted, and refuses what is another search."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testing.format_copies import with_formats
from testing.tiny_bundle import make_tiny_bundle
from tests.triton.planning.conftest import fake_install
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.tuning.search import Outcome, Search
from vdeploy.benchmark.tuning.search_space import SearchSpace, make_space
from vdeploy.core.errors import BundleError, MissingExtraError, StudyError
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.planning.tuned_serving import Configuration, Goal, HeldRate

DEFAULTS = Configuration("python", "onnx-fp32", "onnx-fp32", 1, 2, 8, None)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return with_formats(make_tiny_bundle(tmp_path / "bundle"), "openvino-fp32", "onnx-int8", "tflite-fp32")


@pytest.fixture
def space(bundle: Bundle) -> SearchSpace:
    return make_space(bundle, DEFAULTS, Surroundings(cores=2), 200.0, None)


def test_streams_of_a_causal_extractor_do_not_depend_on_its_format_and_copies(bundle: Bundle) -> None:
    form = bundle.manifest.artifacts[0].model_copy(update={"stage": "stream"})
    bundle.manifest = bundle.manifest.model_copy(update={"artifacts": (*bundle.manifest.artifacts, form)})
    where = Surroundings(cores=2)
    streams = make_space(bundle, DEFAULTS, where, 200.0, None, "streams").choices
    clips = make_space(bundle, DEFAULTS, where, 200.0, None, "clips").choices
    assert {name for name in clips if clips[name] != streams[name]} == {"extractor", "instances"}
    assert (streams["extractor"], streams["instances"]) == (["onnx-fp32"], [1])


def worth(configuration: Configuration) -> Outcome:
    """Best in INT8 by OpenVINO's neighbour, with two copies of one thread that take a clip each."""
    rate = 10.0 + 5 * (configuration.extractor == "onnx-int8") + 3 * (configuration.instances == 2)
    rate += 2 * (configuration.instance_threads == 1) - configuration.max_batch / 8
    cpu = 0.1 * configuration.instance_threads * configuration.instances
    return Outcome(HeldRate(clips_per_s=rate, p99_ms=190, cpu_s_per_clip=cpu), ((rate, 190.0, False),))


@dataclasses.dataclass
class Measured:
    """Counts what it measures, and is interrupted once."""

    interrupt_at: int = -1
    seen: list[Configuration] = dataclasses.field(default_factory=list)
    confirmed: list[Configuration] = dataclasses.field(default_factory=list)

    def __call__(self, configuration: Configuration, *, confirm: bool) -> Outcome:
        (self.confirmed if confirm else self.seen).append(configuration)
        if len(self.seen) == self.interrupt_at:
            raise KeyboardInterrupt
        return worth(configuration)


def search(file: Path, space: SearchSpace, goal: Goal = "throughput", **identity: object) -> Search:
    return Search(file / "trials.db", space, goal, {"bundle": "b", **identity})


def test_a_space_holds_what_the_server_runs_and_nothing_twice(space: SearchSpace) -> None:
    assert space.choices["extractor"] == ["onnx-fp32", "onnx-int8", "openvino-fp32"]
    made = space.configurations()
    assert len(set(made)) == len(made)
    assert DEFAULTS in made
    assert not [one for one in made if one.max_batch == 1 and one.latency_budget_ms]
    assert {(one.instances, one.instance_threads) for one in made} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert space.first_trials()[0] == DEFAULTS
    assert [one.extractor for one in space.first_trials()[1:]] == space.choices["extractor"]
    assert {*space.first_trials()} <= {*made}


def test_backends_and_precision(bundle: Bundle, tmp_path: Path) -> None:
    where = Surroundings(Target(lacks_openvino=True), fake_install(tmp_path / "b", "python", "onnxruntime"), cores=8)
    space = make_space(bundle, DEFAULTS, where, 200.0, "fp32")
    assert space.choices["backend"] == ["onnxruntime", "python"]
    assert space.choices["extractor"] == ["onnx-fp32"]
    assert space.choices["instances"] == [1, 2, 8]
    with pytest.raises(BundleError, match="holds no format in fp16 that Triton runs on a CPU"):
        make_space(bundle, DEFAULTS, where, 200.0, "fp16")


def test_the_best_is_found_and_kept(space: SearchSpace, tmp_path: Path) -> None:
    measured = Measured()
    found = search(tmp_path, space)
    found.run(measured, 9)
    assert len(found.trials) == 9 == len({*measured.seen})
    assert found.best.outcome.held.clips_per_s >= 15
    assert found.best.configuration.extractor == "onnx-int8"
    assert found.best.outcome == worth(found.best.configuration)


@pytest.fixture
def few(space: SearchSpace) -> SearchSpace:
    """Four configurations."""
    one = ["onnx-fp32"]
    choices = {**space.choices, "max_batch": [8], "extractor": one, "classifier": one, "latency_budget_ms": [None]}
    return dataclasses.replace(space, choices=choices)


def test_cost_is_another_goal(few: SearchSpace, tmp_path: Path) -> None:
    found = search(tmp_path, few, "cost")
    found.run(Measured(), 4)
    best = found.best.configuration
    assert (best.instances, best.instance_threads) == (1, 1)


def test_it_ends_when_nothing_is_left(few: SearchSpace, tmp_path: Path) -> None:
    found = search(tmp_path, few)
    found.run(Measured(), 99)
    assert {trial.configuration for trial in found.trials} == {*few.configurations()}
    assert len(found.trials) == 4


def test_an_interrupted_search_finds_what_one_in_a_single_piece_finds(space: SearchSpace, tmp_path: Path) -> None:
    whole, broken = Measured(), Measured(interrupt_at=5)
    search(tmp_path / "a", space).run(whole, 7)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "b", space).run(broken, 7)
    found = search(tmp_path / "b", space)
    assert len(found.trials) == 4
    found.run(broken, 7)
    assert broken.seen.pop(4) == broken.seen[4]
    assert broken.seen == whole.seen


def test_what_is_confirmed_is_measured_once(space: SearchSpace, tmp_path: Path) -> None:
    measured = Measured()
    first = search(tmp_path, space).confirmed(DEFAULTS, measured)
    assert search(tmp_path, space).confirmed(DEFAULTS, measured) == first == worth(DEFAULTS)
    assert measured.confirmed == [DEFAULTS]


def test_another_search_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    search(tmp_path, space, objective=200).run(Measured(), 1)
    with pytest.raises(StudyError, match="is a search with another objective; choose another folder: --out DIR"):
        search(tmp_path, space, objective=100)
    with pytest.raises(StudyError, match="another goal"):
        search(tmp_path, space, "cost", objective=200)


def test_a_file_that_is_no_study(space: SearchSpace, tmp_path: Path) -> None:
    (tmp_path / "trials.db").write_text("dear diary, this is no study")
    with pytest.raises(StudyError, match=r"cannot be used as a study \(it is no SQLite file\)"):
        search(tmp_path, space)
    assert (tmp_path / "trials.db").read_text().startswith("dear diary")


def test_a_missing_optuna_names_its_extra(space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"vdeploy tune-serving needs .*pip install 'vdeploy\[tune\]'"):
        search(tmp_path, space)


KILLED = """
import os, pathlib, signal, sys
from tests.benchmark.tuning.test_serving_search import DEFAULTS, Measured, search
from vdeploy.benchmark.tuning.search_space import SearchSpace

class Killed(Measured):
    def __call__(self, configuration, *, confirm):
        outcome = super().__call__(configuration, confirm=confirm)
        if len(self.seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

one = ["onnx-fp32"]
choices = {"backend": ["python"], "extractor": one, "classifier": one, "instances": [1, 2], "instance_threads": [1, 2],
           "max_batch": [8], "latency_budget_ms": [None]}
search(pathlib.Path(sys.argv[1]), SearchSpace(DEFAULTS, choices)).run(Killed(), 4)
"""


@pytest.mark.slow
def test_trials_outlive_a_kill(few: SearchSpace, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    found, measured = search(tmp_path, few), Measured()
    assert [trial.configuration for trial in found.trials] == [DEFAULTS]
    found.run(measured, 4)
    assert len(measured.seen) == 3
    assert len(found.trials) == 4
