"""Sensors of a pump under a cyclic load.

Normal: flow follows the load, pressure its square, vibration its power 1.5; temperature follows with thermal inertia,
over an ambient temperature that changes in the course of a day. Each sensor adds autoregressive noise of its own.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepad.data.synthetic.base import (
    ROWS,
    Columns,
    Floats,
    Generator,
    Random,
    autoregressive,
    labelled,
    number,
    order,
    series_spans,
    steps,
    timestamps,
    whole,
)

# by sensor: standard deviation of its noise, memory of its noise a step, lowest value it can show
_SENSORS = {
    "temperature": (0.4, 0.8, -50.0),
    "pressure": (0.08, 0.5, 0.0),
    "vibration": (0.10, 0.4, 0.0),
    "flow": (0.9, 0.6, 0.0),
}


def sensors(
    *,
    rows: int = 10_080,
    rate: float = 0.03,
    severity: float = 1.0,
    patterns: Sequence[str] | None = None,
    duration: float = 30,
    anomaly_free: float = 0.5,
    interval: float = 60,
    period: int = 240,
    seed: int = 0,
) -> pa.Table:
    """Sensors of a pump from 2024-01-01 on; a row is one reading every `interval` seconds (7 days by default).

    Columns: `timestamp`, `temperature` (degrees Celsius, of the bearing), `pressure` (bar), `vibration` (mm/s, RMS) and
    `flow` (m3/h). The load goes through a cycle in `period` steps.

    Patterns, each in one sensor at a time, in episodes of `duration` steps on average: `level_shift`, `drift` (grows
    from nothing), `spike` (a single step), `stuck` (repeats the last good value, which itself is normal; below severity
    1 it only moves less than it should) and `noise_burst`. Sizes are multiples of the sensor's noise, so most of them
    hide within the range of the cycle: the other sensors and the steps around tell.
    """
    asked = order(GENERATOR, seed=seed, rows=rows, rate=rate, severity=severity, patterns=patterns)
    interval = number("interval", interval, 0.001, 86_400, "0.001 <= interval <= 86400 (seconds)", closed=True)
    period = whole("period", period, 4, ROWS[1])
    spans = series_spans(asked, duration, anomaly_free, points=("spike",))
    x = _normal(asked.random("normal"), asked.rows, period, interval)
    for name in asked.counts:
        random, inject = asked.random(name), _INJECT[name]
        for _, start, stop in (span for span in spans if span[0] == name):
            sensor = str(random.choice(list(_SENSORS)))
            sd, _, lowest = _SENSORS[sensor]
            changed = inject(random, x[sensor][start - 1], x[sensor][start:stop], asked.severity, sd)
            x[sensor][start:stop] = np.maximum(changed, lowest)
    return labelled(x, steps(spans), timestamp=timestamps(asked.rows, round(interval * 1000)))


def _normal(random: Random, n: int, period: int, interval: float) -> Columns:
    phase = 2 * np.pi * (np.arange(n) / period + random.random())
    load = 0.55 + 0.35 * np.tanh(2.2 * np.sin(phase)) + autoregressive(random, n, 0.98, 0.04)
    load = np.clip(load, 0.05, 1.2)
    ambient = 19 + 4 * np.sin(2 * np.pi * (np.arange(n) * interval / 86_400 - 0.4))
    clean = {
        "temperature": ambient + _lagging(38 * load, period / 12),
        "pressure": 1.5 + 4.0 * load**2,
        "vibration": 0.9 + 1.8 * load**1.5,
        "flow": 42 * load,
    }
    noise = {name: autoregressive(random, n, memory, sd) for name, (sd, memory, _) in _SENSORS.items()}
    low = {name: lowest for name, (_, _, lowest) in _SENSORS.items()}
    return {name: low[name] + np.abs(value + noise[name] - low[name]) for name, value in clean.items()}


def _lagging(x: Floats, inertia: float) -> Floats:
    """x as a body with thermal inertia follows it: a first-order lag of so many steps."""
    follow, state, out = 1 - float(np.exp(-1 / inertia)), float(x[0]), []
    for value in x.tolist():
        state += follow * (value - state)
        out.append(state)
    return np.array(out)


# what each pattern makes of the values x of a sensor; `sd` is that of its noise, `last` the good value before


def _signed(random: Random, low: float, high: float) -> float:
    return float(random.choice((-1, 1)) * random.uniform(low, high))


def _level_shift(random: Random, last: float, x: Floats, severity: float, sd: float) -> Floats:
    return x + severity * sd * _signed(random, 5, 9)


def _drift(random: Random, last: float, x: Floats, severity: float, sd: float) -> Floats:
    return x + severity * sd * _signed(random, 8, 14) * np.arange(1, len(x) + 1) / len(x)


def _spike(random: Random, last: float, x: Floats, severity: float, sd: float) -> Floats:
    return x + severity * sd * _signed(random, 8, 16)


def _stuck(random: Random, last: float, x: Floats, severity: float, sd: float) -> Floats:
    return last + max(0.0, 1 - severity) * (x - last)


def _noise_burst(random: Random, last: float, x: Floats, severity: float, sd: float) -> Floats:
    return x + 6 * severity * sd * random.standard_normal(len(x))


_INJECT = {
    "level_shift": _level_shift, "drift": _drift, "spike": _spike, "stuck": _stuck, "noise_burst": _noise_burst,
}  # fmt: skip
GENERATOR = Generator(
    "sensors", sensors, "series", "sensors of a pump under a cyclic load", "timestamp", tuple(_INJECT)
)
