"""Latency of a queue with one worker, by formula and by simulation."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["highest_load", "p99_latency", "simulated_p99"]

QUANTILE = 0.99
REQUESTS = 100_000
"""Of a simulation; a tenth of them are left out at its begin."""

_HALVINGS = 40
_NORMAL_99 = 2.326


def p99_latency(rate: float, service_s: float, *, variation: float = 0.0) -> float:
    """99th percentile of the time from arrival to answer, in seconds.

    Arrivals are Poisson. A share of ``load`` of the requests waits, in the mean for
    ``service / (1 - load) * (1 + variation^2) / 2``, by the formula of Pollaczek and Khinchine, which is exact (Allen,
    Probability, Statistics, and Queueing Theory, 2nd edition). They wait for an exponentially distributed time, as in
    heavy traffic (Kingman, The single server queue in heavy traffic, 1961). The service has a gamma distribution; what
    its 99th percentile (Wilson and Hilferty, The distribution of chi-square, 1931) and that of the wait add to the mean
    service is combined by squares, as deviations of independent times are.

    Args:
        rate: Requests a second.
        service_s: Mean seconds of a request.
        variation: Standard deviation of that over its mean.

    Returns:
        Seconds; infinite where requests come faster than they are served.
    """
    load = rate * service_s
    if load >= 1:
        return math.inf
    mean_wait_s = service_s / (1 - load) * (1 + variation**2) / 2
    late = max(0.0, math.log(load / (1 - QUANTILE))) if load else 0.0
    slow = (1 - variation**2 / 9 + _NORMAL_99 * variation / 3) ** 3 - 1
    return service_s + math.hypot(service_s * slow, late * mean_wait_s)


def highest_load(service_s: float, slo_s: float, *, variation: float = 0.0) -> float:
    """Highest rate at which `p99_latency` keeps an objective, in requests a second; 0 where none does.

    Args:
        service_s: As for `p99_latency`.
        slo_s: The objective in seconds.
        variation: As for `p99_latency`.
    """
    low, high = 0.0, 1 / service_s
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        holds = p99_latency(middle, service_s, variation=variation) <= slo_s
        low, high = (middle, high) if holds else (low, middle)
    return low if low > 1e-6 / service_s else 0.0


def simulated_p99(rate: float, service_s: float, *, variation: float = 0.0, requests: int = REQUESTS) -> float:
    """The same by simulation of single requests: Poisson arrivals, gamma distributed service, first come, first served.

    Args:
        rate: As for `p99_latency`.
        service_s: As for `p99_latency`.
        variation: As for `p99_latency`.
        requests: How many.
    """
    random = np.random.default_rng(0)
    arrivals = np.cumsum(random.exponential(1 / rate, requests)).tolist()
    shape = 1 / variation**2 if variation else math.inf
    services = random.gamma(shape, service_s / shape, requests) if variation else np.full(requests, service_s)
    end, latencies = 0.0, np.empty(requests)
    for index, (arrival, service) in enumerate(zip(arrivals, services.tolist(), strict=True)):
        end = max(arrival, end) + service
        latencies[index] = end - arrival
    return float(np.quantile(latencies[requests // 10 :], QUANTILE))
