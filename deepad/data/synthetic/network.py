"""Traffic of a site, counted in intervals.

Normal: hosts follow the time of day, weekday or weekend, and a slow wander; flows follow the hosts, packets and ports
the flows, bytes the packets. Every night from 1:30 to 4:30 a backup leaves the site, which no other hour knows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepad.data.synthetic.base import (
    Columns,
    Floats,
    Generator,
    Random,
    autoregressive,
    counted,
    labelled,
    lognormal,
    number,
    order,
    series_spans,
    steps,
    timestamps,
)

_BACKUP = 20e6
"""Bytes that a backup, or an exfiltration of severity 1, sends out in five minutes."""


def network(
    *,
    rows: int = 8064,
    rate: float = 0.02,
    severity: float = 1.0,
    patterns: Sequence[str] | None = None,
    duration: float = 6,
    anomaly_free: float = 0.5,
    interval: float = 5,
    seed: int = 0,
) -> pa.Table:
    """Traffic of a site from Monday 2024-01-01 on; a row is one interval of `interval` minutes (28 days by default).

    Columns: `timestamp` (start of the interval), and in the interval `packets`, `bytes`, `flows`, `distinct_ports`
    (destinations), `distinct_hosts` (sources), `refused` (flows without an answer), and `outbound_ratio` (share of the
    bytes that leave, 0 to 1).

    Patterns, in episodes of `duration` steps on average: `ddos`: very many hosts send very many small packets; it takes
    a few steps to grow. `port_scan`: one host tries very many ports, volume stays. `exfiltration` (contextual): as much
    leaves as in the nightly backup, at any hour. All of them add to the traffic that is there.
    """
    asked = order(GENERATOR, seed=seed, rows=rows, rate=rate, severity=severity, patterns=patterns)
    interval = number("interval", interval, 0.01, 1440, "0.01 <= interval <= 1440 (minutes)", closed=True)
    spans = series_spans(asked, duration, anomaly_free)
    x = _normal(asked.random("normal"), asked.rows, interval)
    for name in asked.counts:
        random, inject = asked.random(name), _INJECT[name]
        for _, start, stop in (span for span in spans if span[0] == name):
            for column, more in inject(random, stop - start, asked.severity, interval / 5).items():
                x[column][start:stop] += more
    incoming, outgoing = x.pop("incoming"), x.pop("outgoing")
    total = incoming + outgoing
    x = {"packets": x.pop("packets"), "bytes": total, **x, "outbound_ratio": outgoing / np.maximum(total, 1)}
    return labelled(x, steps(spans), timestamp=timestamps(asked.rows, round(interval * 60_000)))


def _normal(random: Random, n: int, interval: float) -> Columns:
    day = np.arange(n) * interval / (24 * 60)
    hour, weekend, scale = day % 1 * 24, day % 7 >= 5, interval / 5
    work = np.exp(-(((hour - 10.8) / 2.6) ** 2) / 2) + 0.9 * np.exp(-(((hour - 15.5) / 2.2) ** 2) / 2)
    evening = 0.4 * np.exp(-(((hour - 20.5) / 1.8) ** 2) / 2)
    wander = np.exp(autoregressive(random, n, 0.97, 0.1))
    load = (0.1 + np.where(weekend, 0.25, 1.0) * work + np.where(weekend, 1.3, 1.0) * evening) * wander
    hosts = random.poisson(6 + 130 * load)
    flows = counted(random, hosts * 5.5 * scale, 60)
    packets = flows + random.poisson(flows * lognormal(random, 120, 0.12, n))
    size = np.clip(lognormal(random, 640, 0.05, n), 64, 1400)
    leaving = 1 / (1 + np.exp(1.1 - autoregressive(random, n, 0.9, 0.15)))
    backup = np.where((hour >= 1.5) & (hour < 4.5), _BACKUP * scale * lognormal(random, 1.0, 0.12, n), 0)
    outgoing = np.rint(packets * size * leaving + backup).astype(np.int64)
    return {
        "packets": packets + np.ceil(backup / 1400).astype(np.int64),
        "incoming": np.rint(packets * size * (1 - leaving)).astype(np.int64),
        "outgoing": outgoing,
        "flows": flows,
        "distinct_ports": 1 + random.poisson(8 + 30 * np.log1p(flows / (100 * scale))),
        "distinct_hosts": hosts,
        "refused": random.binomial(flows, random.beta(6, 300, n)),
    }


def _ddos(random: Random, n: int, severity: float, scale: float) -> Columns:
    strength = severity**2 * float(random.gamma(9, 1 / 9)) * -np.expm1(-np.arange(1, n + 1) / 1.5)
    hosts = random.poisson(150 * strength)
    flows = hosts + random.poisson(1000 * scale * strength)
    packets = 1 + flows + random.poisson(250_000 * scale * strength)
    return {
        "distinct_hosts": hosts,
        "flows": flows,
        "packets": packets,
        "refused": random.binomial(flows, 0.6),
        "incoming": packets * 80,
    }


def _port_scan(random: Random, n: int, severity: float, scale: float) -> Columns:
    ports = 1 + random.poisson(160 * severity**2 * random.gamma(9, 1 / 9) * random.gamma(20, 1 / 20, n))
    flows = ports + random.poisson(0.2 * ports)
    return {
        "distinct_hosts": np.ones(n, np.int64),
        "distinct_ports": ports,
        "flows": flows,
        "packets": flows * 2,
        "refused": random.binomial(flows, 0.92),
        "incoming": flows * 64,
        "outgoing": flows * 54,
    }


def _exfiltration(random: Random, n: int, severity: float, scale: float) -> Columns:
    sent: Floats = _BACKUP * scale * severity * random.gamma(25, 1 / 25) * lognormal(random, 1.0, 0.12, n)
    packets = np.ceil(sent / 1400).astype(np.int64) + 1
    return {"flows": random.poisson(0.5, n), "packets": packets, "outgoing": packets * 1400, "incoming": packets * 40}


_INJECT = {"ddos": _ddos, "port_scan": _port_scan, "exfiltration": _exfiltration}
GENERATOR = Generator(
    "network", network, "series", "traffic of a site, counted in intervals", "timestamp", tuple(_INJECT)
)
