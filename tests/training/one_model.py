"""An ensemble as one model: what every format and a Triton say of clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.triton.conftest import own_ports
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import Run
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats
from vdeploy.inference.in_process import LocalScorer
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer


def check_every_format(
    run: Run, clips: Any, expected: Any, folder: Path, *, store: Path, install: TritonInstall
) -> tuple[Bundle, Repository]:
    """Exports a run in every format of a CPU and serves it; each says what is expected of the clips."""
    formats = parse_formats("onnx-fp32,onnx-int8,savedmodel,tflite-fp32,tflite-int8,openvino-fp32,openvino-int8")
    exported = export_run(run, formats, folder / "bundle", options=ExportOptions(store_root=store))
    assert not exported.rejected
    for kind in formats:
        found = LocalScorer(exported.bundle, kind.name).score(clips)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.1 if kind.precision == "int8" else 1e-4)
    repository = write_repository(exported.bundle, folder / "repository")
    with (
        TritonServer(repository, install=install, log_file=folder / "log", **own_ports().as_arguments()) as server,
        TritonScorer(server.url) as scorer,
    ):
        np.testing.assert_allclose(scorer.score(clips), expected, rtol=0, atol=1e-4)
    return exported.bundle, repository
