"""What servers do under load: rollouts, several Tritons, the gateway."""

from __future__ import annotations

from typing import Any

from benchmarks.results.markdown import between, table
from benchmarks.results.study import Blocks, Found, Step, Study

__all__ = ["GATEWAY", "INSTANCES", "ROLLOUT"]


def _rollout(found: Found) -> Blocks:
    one = next(iter(found.values()))
    yield f"{one['clients']} clients, tiny models; versions change and stages' processes are killed meanwhile."
    yield table(
        (
            "seed",
            "versions changed",
            "stages killed",
            "requests",
            "wrong",
            "lost",
            "retried and answered",
            "p50 / p99, ms",
        ),
        [
            (
                each["seed"],
                each["versions_changed"],
                each["stages_killed"],
                f"{each['requests']:,}",
                each["wrong_answers"],
                each["requests_lost"],
                each["requests_retried"],
                f"{each['ms_p50']} / {each['ms_p99']}",
            )
            for each in found.values()
        ],
    )


def _instances(found: Found) -> Blocks:
    one = next(iter(found.values()))
    yield (
        f"The tests' tiny bundle, {one['clients']} clients on the same machine, each row against one Triton in the "
        "same run. It shows what the front costs, and whether an answer is wrong."
    )
    yield table(
        ("Tritons", "behind", "clips/s", "of one", "p50 ms", "p99 ms", "of one", "requests", "wrong"),
        [
            (
                row["instances"],
                row["behind"],
                f"{row['clips_per_s']:.0f}",
                f"{row['clips_per_s'] / each['rows'][0]['clips_per_s']:.2f}x",
                row["p50_ms"],
                row["p99_ms"],
                f"{row['p99_ms'] / each['rows'][0]['p99_ms']:.2f}x",
                row["requests"],
                row["wrong"],
            )
            for each in found.values()
            for row in each["rows"]
        ],
    )


def _gateway(found: Found) -> Blocks:
    if closed := found.get("closed loop"):
        yield (
            f"Clients on the same machine, decoded frames of {closed['frames']} x {closed['size']} px "
            f"({closed['bytes'] / 1e6:.1f} MB a request), a tiny model:"
        )
        yield table(
            ("clients", "requests/s", "p50 ms", "p99 ms"),
            [(row["clients"], row["requests_per_s"], row["p50_ms"], row["p99_ms"]) for row in closed["closed_loop"]],
        )
    loads = [each["open_loop"] for each in found.values() if "open_loop" in each]
    if loads:
        yield "Requests at a fixed rate, whatever the answers do:"
        yield table(
            ("asked, requests/s", "answered, requests/s", "p50 ms", "p99 ms"),
            [(f"{load['rate']:g}", load.get("requests_per_s"), load.get("p50_ms"), load["p99_ms"]) for load in loads],
        )
    if soak := found.get("soak"):
        yield _soak(soak["soak"])
    if mutated := found.get("mutations"):
        outcome = "no crash, no answer but a verdict or a clean refusal" if mutated["passed"] else "THE TEST FAILED"
        yield f"{mutated['count']:,} mutated videos: {outcome}."


def _soak(soak: dict[str, Any]) -> str:
    after_start, last = soak["held"][1], soak["held"][-1]
    statuses = between(f"{count:,} with {status}" for status, count in soak["statuses"].items())
    return (
        f"Frames, files, timelines, broken files and streams mixed, {soak['clients']} clients: {last['requests']:,} "
        f"requests in {last['minute']:g} minutes, answered {statuses}; {after_start['memory_mib']:.0f} MiB after "
        f"minute {after_start['minute']:g}, {last['memory_mib']:.0f} MiB after minute {last['minute']:g}; files left: "
        f"{soak['files_left']}."
    )


ROLLOUT = Study(
    "rollout",
    "Rollouts under load",
    tuple(Step(f"seed {seed}", f"python -m benchmarks.rollout --seed {seed}") for seed in range(2)),
    _rollout,
)
INSTANCES = Study(
    "instances",
    "Several Tritons behind nginx",
    (
        Step("1 and 2", "python -m benchmarks.instances --instances 1 2 --seconds 6"),
        Step("4", "python -m benchmarks.instances --instances 4 --seconds 6"),
    ),
    _instances,
)
GATEWAY = Study(
    "gateway",
    "Gateway",
    (
        Step("closed loop", "python -m benchmarks.gateway --seconds 5"),
        Step("90 a second", "python -m benchmarks.gateway --rate 90 --seconds 8"),
        Step("100 a second", "python -m benchmarks.gateway --rate 100 --seconds 8"),
        Step("soak", "python -m benchmarks.gateway --soak 10"),
        Step("mutations", "python -m benchmarks.mutations --count 1000"),
    ),
    _gateway,
)
