"""`make demo`: data, training, export, serving, prediction and benchmark on generated clips."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vdeploy.cli.options import print_table
from vdeploy.core.child_python import python_command
from vdeploy.core.errors import ServerError, UserError
from vdeploy.triton.server.ports import free_ports

__all__ = ["main"]

CLIPS = 80
SERVER_SECONDS = 240.0


def main(folder: Path) -> None:
    """Runs the demo.

    Args:
        folder: Folder of clips, run, bundle and repository; existing ones are reused.
    """
    started = time.monotonic()
    clips, run, bundle, repository = (folder / name for name in ("clips", "run", "bundle", "triton_repo"))
    _vdeploy("data", "synth", clips, "--clips", CLIPS)
    _vdeploy("train", clips, "--out", run)
    _vdeploy("export", run, "--out", bundle)
    truth = _held_out(clips, run)
    with _server(bundle, repository) as url:
        served = _predict(truth, "--url", url)
        local = _predict(truth, "--bundle", bundle)
        _vdeploy("benchmark", bundle, "--url", url, "--what", "pipeline", "--seconds", 1)
    rows = [
        (path, "violent" if label else "non-violent", f"{served[path]:.6f}", f"{local[path]:.6f}")
        for path, label in truth.items()
    ]
    print()  # noqa: T201  the demo's own output
    title = "Probability of violence, clips held out of training"
    print_table(("clip", "truth", "from Triton", "in process"), rows, title=title)
    right = sum((served[path] >= _threshold(bundle)) == bool(label) for path, label in truth.items())
    print(  # noqa: T201  the demo's own output
        f"\n{right} of {len(truth)} right; largest difference between Triton and this process: "
        f"{max(abs(served[path] - local[path]) for path in truth):.1e}\n"
        f"report:     {run / 'report.html'}\nbundle:     {bundle}\nrepository: {repository}\n"
        f"done in {time.monotonic() - started:.0f} s"
    )


def _threshold(bundle: Path) -> float:
    return float(json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["threshold"])


def _held_out(clips: Path, run: Path) -> dict[str, int]:
    with (run / "clips.csv").open(newline="", encoding="utf-8") as file:
        return {str(clips / row["path"]): int(row["label"]) for row in csv.DictReader(file) if row["split"] == "test"}


def _predict(truth: dict[str, int], *where: object) -> dict[str, float]:
    answer: dict[str, Any] = json.loads(_vdeploy("predict", *truth, *where, "--json", capture=True, shown=3))
    return {item["path"]: item["probability"] for item in answer["predictions"]}


@contextlib.contextmanager
def _server(bundle: Path, repository: Path) -> Iterator[str]:
    http, grpc = free_ports(2)
    ports = ("--http-port", http, "--grpc-port", grpc, "--metrics-port", 0)
    arguments = ("serve", bundle, "--repo", repository, "--launch", *ports)
    _show(arguments)
    with subprocess.Popen(python_command("vdeploy", *arguments)) as process:
        try:
            _wait_for(process, grpc)
            yield f"127.0.0.1:{grpc}"
        finally:
            process.terminate()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    from vdeploy.triton.client.client import TritonScorer  # noqa: PLC0415  needed here only

    deadline = time.monotonic() + SERVER_SECONDS
    while True:
        try:
            with TritonScorer(f"127.0.0.1:{port}"):
                return
        except UserError as error:
            if process.poll() is not None:
                raise ServerError("the server did not start", "see the lines above") from error
            if time.monotonic() > deadline:
                raise ServerError(f"the server is not ready after {SERVER_SECONDS:.0f} s", "see its log") from error
            time.sleep(0.5)


def _show(arguments: Sequence[object], shown: int | None = None) -> None:
    words = [str(argument) for argument in arguments]
    if shown is not None and len(words) > shown + 4:
        words = [*words[:shown], "...", *words[-3:]]
    print(f"\n$ vdeploy {shlex.join(words)}", flush=True)  # noqa: T201  the demo's own output


def _vdeploy(*arguments: object, capture: bool = False, shown: int | None = None) -> str:
    _show(arguments, shown)
    stdout = subprocess.PIPE if capture else None
    done = subprocess.run(python_command("vdeploy", *arguments), check=False, text=True, stdout=stdout)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
