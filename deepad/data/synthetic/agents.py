"""Software agents: what each of them did in an interval of five minutes.

Normal: four roles (assistant, researcher, coder, batch worker) under a changing load. Actions follow role and load;
calls, written files and tools follow the actions, each role in its own proportion; responses slow down with the load.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepad.data.synthetic.base import (
    Columns,
    Generator,
    Integers,
    Order,
    Random,
    choose,
    counted,
    exchange,
    labelled,
    lognormal,
    order,
    quantile_bin,
    toward,
)

# by role: share of rows, actions a minute, calls an action, files written an action, tools, seconds to respond
_ROLES = np.array(
    [
        (0.40, 3.0, 1.2, 0.03, 2.0, 1.1),
        (0.25, 6.0, 3.0, 0.12, 3.5, 2.0),
        (0.25, 9.0, 1.5, 0.90, 5.0, 2.8),
        (0.10, 25.0, 1.1, 1.60, 1.5, 0.6),
    ]
)
_MINUTES = 5


def agents(
    *,
    rows: int = 10_000,
    rate: float = 0.02,
    severity: float = 1.0,
    patterns: Sequence[str] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Behaviour of software agents; a row is one agent in one interval of five minutes, in no order.

    Columns: `actions_per_minute`, `api_calls` and `file_writes` (in the interval), `tools` (different tools used),
    `response_time` (seconds, median of the interval), `error_rate` (failed share of the calls, 0 to 1).

    Patterns: `runaway_loop` (point): actions and calls far up, on one tool. `exfiltration` (contextual): files and
    calls as busy agents have them, at little activity. `degraded` (point): slow responses and many errors at ordinary
    load.
    """
    asked = order(GENERATOR, seed=seed, rows=rows, rate=rate, severity=severity, patterns=patterns)
    x = _normal(asked.random("normal"), asked.rows)
    quiet = x["actions_per_minute"] <= np.median(x["actions_per_minute"])
    changed = choose(asked.random("place"), asked.counts, np.ones(asked.rows, bool), exfiltration=quiet)
    y = {name: column.copy() for name, column in x.items()}
    for name, at in changed.items():
        _INJECT[name](asked, x, y, at)
    return labelled(y, changed)


def _normal(random: Random, n: int) -> Columns:
    role = random.choice(len(_ROLES), n, p=_ROLES[:, 0])
    _, actions, calls, writes, tools, response = _ROLES[role].T
    load = lognormal(random, 1.0, 0.45, n)
    done = actions * load * random.gamma(25, 1 / 25, n)
    made = counted(random, calls * done * _MINUTES, 12)
    return {
        "actions_per_minute": done,
        "api_calls": made,
        "file_writes": counted(random, writes * done * _MINUTES, 4),
        "tools": 1 + random.binomial(9, np.clip((tools - 1) / 9 * load**0.3, 0, 0.9)),
        "response_time": lognormal(random, response * (0.8 + 0.2 * load**1.5), 0.18, n),
        "error_rate": random.binomial(made, random.beta(2, 130, n)) / np.maximum(made, 1),
    }


def _runaway_loop(asked: Order, x: Columns, y: Columns, at: Integers) -> None:
    random = asked.random("runaway_loop")
    faster = np.exp(asked.severity * np.log(lognormal(random, 18, 0.4, len(at))))
    before = x["actions_per_minute"][at]
    y["actions_per_minute"][at] = now = np.clip(before * faster, 0, 60_000)
    extra = random.poisson(1.1 * _MINUTES * np.maximum(now - before, 0))
    y["api_calls"][at] = calls = x["api_calls"][at] + extra
    failed = random.binomial(extra, random.beta(2, 130, len(at))) + np.rint(x["error_rate"][at] * x["api_calls"][at])
    y["error_rate"][at] = failed / np.maximum(calls, 1)
    single = random.random(len(at)) < min(asked.severity, 1.0)
    y["tools"][at] = np.where(single, 1, x["tools"][at])


def _exfiltration(asked: Order, x: Columns, y: Columns, at: Integers) -> None:
    """Files and calls of another row; what the agent did otherwise stays as it was."""
    random = asked.random("exfiltration")
    made, written = x["api_calls"], x["file_writes"]
    context = quantile_bin(x["actions_per_minute"], 8)
    value = quantile_bin(written, 5) * 5 + quantile_bin(made, 5)
    least, most = np.quantile(written, (min(asked.severity, 1) / 2, 0.95))
    usual = (written >= least) & (written <= most) & (made <= np.quantile(made, 0.95))
    donor = exchange(random, context, value, at, asked.severity, usual)
    failed = random.binomial(made[donor], random.beta(2, 130, len(at)))
    y["file_writes"][at], y["api_calls"][at] = np.maximum(written[donor], written[at] + 1), made[donor]
    y["error_rate"][at] = failed / np.maximum(made[donor], 1)


def _degraded(asked: Order, x: Columns, y: Columns, at: Integers) -> None:
    random = asked.random("degraded")
    made, before = x["api_calls"][at], x["response_time"][at]
    new = toward(before, before * lognormal(random, 4.5, 0.3, len(at)), asked.severity)
    y["response_time"][at] = np.minimum(new, 3600)
    failed = np.rint(x["error_rate"][at] * made).astype(np.int64)
    more = random.binomial(made - failed, -np.expm1(-0.2 * asked.severity * random.gamma(4, 0.25, len(at))))
    y["error_rate"][at] = (failed + more) / np.maximum(made, 1)


_INJECT = {"runaway_loop": _runaway_loop, "exfiltration": _exfiltration, "degraded": _degraded}
GENERATOR = Generator("agents", agents, "table", "software agents, one interval a row", None, tuple(_INJECT))
