"""Requests during rollouts: versions change and processes of stages are killed, on a real Triton.

    python -m benchmarks.rollout [--requests 10000] [--clients 8] [--changes 20] [--kills 5] [--seed 0]

Two tiny bundles with different answers replace each other, every fourth time by a rollback, while clients send clips
and the process of a stage is killed from time to time. Run it from the root of the repository. It fails if an answer is
that of neither bundle, or if a request is not answered after retries.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.output import add_output_options, report_result
from testing.rollout_clients import FORMAT, GIVE_UP_SECONDS, Clients, Tally, answers_of
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.core.errors import ClientError, RolloutError
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.deploy import deploy, rollback
from vdeploy.triton.names import CLASSIFIER_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.planning.plans import plan_deployment
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer

CLIPS = 16
WATCH_SECONDS = 0.5


@dataclasses.dataclass
class Changes:
    """Outcomes of the rollouts.

    Attributes:
        done: Versions that took over.
        refused: Rollouts that went back to the version before.
        kills: Processes of stages that were killed.
        restarts: How often Triton itself crashed over that, and was started again.
        seconds: How long each rollout took.
        reasons: Why rollouts went back.
        ready: Whether Triton is ready after the run.
    """

    done: int = 0
    refused: int = 0
    kills: int = 0
    restarts: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    ready: bool = False


class Killer:
    """Kills processes of stages while versions change."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)  # noqa: S311  nothing secret
        self.kills = 0

    def kill_soon(self) -> threading.Timer:
        """Kills one within two seconds."""
        timer = threading.Timer(self._random.uniform(0.0, 2.0), self._kill)
        timer.start()
        return timer

    def _kill(self) -> None:
        stages = [EXTRACTOR_MODEL, CLASSIFIER_MODEL]
        self._random.shuffle(stages)
        for stage in stages:
            for process in self._stubs(stage):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    self.kills += 1
                    return

    def _stubs(self, stage: str) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"stub" in words[0] and any(f"{self._root}/{stage}/".encode() in word for word in words):
                    found.append(int(entry.name))
        return sorted(found)


def change_versions(
    bundles: dict[str, Bundle], control: ModelControl, root: Path, killer: Killer, *, changes: int, kills: int
) -> Changes:
    """Replaces the bundles by each other, and kills processes of stages."""
    golden: dict[str, GoldenClips] = {name: golden_clips_of(each, FORMAT, FORMAT) for name, each in bundles.items()}
    names, result = list(bundles), Changes()
    serving = names[0]
    kill_at = {round((index + 0.5) * changes / kills) for index in range(kills)} if kills else set()
    while result.done < changes:
        timer = killer.kill_soon() if result.done in kill_at else None
        kill_at.discard(result.done)
        other = names[1 - names.index(serving)]
        try:
            if result.done % 4 == 3:
                result.seconds.append(rollback(control, root).seconds)
            else:
                result.seconds.append(
                    deploy(plan_deployment(bundles[other], root), control, root, golden[other]).seconds
                )
        except (RolloutError, ClientError) as error:
            result.refused += 1
            result.reasons.append(error.message)
            control.wait_until_live(GIVE_UP_SECONDS)
        else:
            result.done += 1
            serving = other
        if timer is not None:
            timer.join()
    result.kills, result.ready = killer.kills, control.is_ready()
    return result


def report(tally: Tally, changes: Changes, seconds: float) -> dict[str, object]:
    """The figures."""
    p50, p99 = np.percentile(tally.milliseconds, [50, 99])
    return {
        "seconds": round(seconds, 1),
        "requests": sum(tally.answers.values()) + tally.wrong + len(tally.lost),
        "answered_by": dict(tally.answers),
        "wrong_answers": tally.wrong,
        "requests_lost": len(tally.lost),
        "requests_retried": tally.retried,
        "failed_attempts": dict(tally.failures),
        "versions_changed": changes.done,
        "rollouts_that_went_back": changes.refused,
        "stages_killed": changes.kills,
        "triton_crashed": changes.restarts,
        "triton_ready_in_the_end": changes.ready,
        "seconds_a_change": round(float(np.median(changes.seconds)), 2),
        "ms_p50": round(float(p50), 1),
        "ms_p99": round(float(p99), 1),
        "ms_max": round(max(tally.milliseconds), 1),
    }


def measure(folder: Path, options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    """Runs it all.

    Returns:
        The figures, and the reasons of what failed.
    """
    bundles = {name: make_tiny_bundle(folder / name, seed=options.seed + index) for index, name in enumerate("AB")}
    clips = np.random.default_rng(options.seed).integers(0, 256, (CLIPS, 4, 32, 32, 3), dtype=np.uint8)
    expected = answers_of(bundles, clips)
    repository = write_repository(bundles["A"], folder / "repository")
    http, grpc = free_ports(2)
    started = time.monotonic()
    with TritonServer(
        repository, http_port=http, grpc_port=grpc, metrics_port=0, log_file=folder / "triton.log"
    ) as server:
        watcher = threading.Thread(target=server.watch, kwargs={"interval_seconds": WATCH_SECONDS})
        watcher.start()
        try:
            with ModelControl(server.url, timeout_seconds=30.0) as control:
                with Clients(server.url, clips, expected, options.clients) as clients:
                    changes = change_versions(
                        bundles,
                        control,
                        repository.root,
                        Killer(repository.root, options.seed),
                        changes=options.changes,
                        kills=options.kills,
                    )
                    while clients.sent < options.requests:
                        time.sleep(0.1)
                tally = sum(clients.tallies, Tally())
        finally:
            server.stop()
            watcher.join()
    changes.restarts = server.restarts
    return report(tally, changes, time.monotonic() - started), changes.reasons + tally.lost


def main() -> None:
    """Measures and prints; exits with 1 if an answer is wrong or a request is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="at least (default: 10000)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--changes", type=int, default=20, help="versions that take over (default: 20)")
    parser.add_argument("--kills", type=int, default=5, help="processes of stages that are killed (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    add_output_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vdeploy-rollout-") as folder:
        figures, reasons = measure(Path(folder), options)
    for reason in reasons:
        sys.stderr.write(f"{reason}\n")
    width = max(map(len, figures))
    lines = [f"{name.replace('_', ' '):{width}}  {value}" for name, value in figures.items()]
    report_result(options, {"clients": options.clients, "seed": options.seed, **figures}, "\n".join(lines))
    if figures["wrong_answers"] or figures["requests_lost"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
