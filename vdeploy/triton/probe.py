"""Probe a Triton server by inference; the exit code says whether its ensembles score zeros.

    python -m vdeploy.triton.probe HOST:PORT [--timeout SECONDS]

For the health checks of containers and Kubernetes. Triton's own health stays good when the process of a stage has died.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from vdeploy.core.errors import ClientError
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.stream_client import StreamClient
from vdeploy.triton.names import STREAM_MODEL

__all__ = ["main", "probe"]

DEFAULT_TIMEOUT_SECONDS = 25.0


def probe(address: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> float:
    """Has a server score one clip of zeros and, where it keeps the windows of streams, a stream of one frame.

    Args:
        address: `HOST:PORT` of its gRPC interface.
        timeout_seconds: How long one request may take.

    Returns:
        The probability of the second class.

    Raises:
        ClientError: It does not answer, or not with two probabilities.
    """
    with TritonScorer(address, timeout_seconds=timeout_seconds) as scorer:
        spec = scorer.spec
        clip = np.zeros((1, spec.frames, spec.size, spec.size, 3), np.uint8)
        answer = scorer.score(clip)[0]
        if not np.isclose(answer.sum(), 1.0, atol=1e-3):
            raise ClientError(f"{address} answered {answer.tolist()}, no probabilities", "look at the server's log")
        keeps_streams = scorer.serves(STREAM_MODEL)
    if keeps_streams:
        with StreamClient(address, timeout_seconds=timeout_seconds) as client, client.open() as stream:
            stream.push(clip[0, 0], last=True)
    return float(answer[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the probe; prints one line.

    Args:
        arguments: Command line; `None` for this process's.

    Returns:
        0 where the server works, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m vdeploy.triton.probe", description=__doc__.splitlines()[0])
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT_SECONDS, help="seconds for a request")
    options = parser.parse_args(arguments)
    try:
        probability = probe(options.address, timeout_seconds=options.timeout)
    except ClientError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"a clip of zeros is violent with probability {probability:.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
