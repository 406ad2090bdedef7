"""Sessions of the users of a web application.

Normal: visitors, members, staff and a nightly technical user. Who it is decides time of day, length, pace and
downloads; requests follow the length, pages the requests, and wrong passwords are rare and few.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from deepad.data.synthetic.base import (
    Columns,
    Floats,
    Generator,
    Integers,
    Order,
    Random,
    choose,
    counted,
    exchange,
    labelled,
    lognormal,
    of_day,
    order,
    toward,
)

# by kind of user: share of sessions; middle and width of the time of day (hours); minutes; seconds a request;
# pages a request; wrong passwords; addresses beyond the first; megabytes downloaded a request
_USERS = np.array(
    [
        (0.45, 14.5, 4.0, 4.0, 14.0, 0.55, 0.05, 0.10, 0.4),
        (0.27, 20.5, 2.2, 15.0, 16.0, 0.45, 0.30, 0.35, 0.6),
        (0.18, 11.5, 2.3, 70.0, 22.0, 0.30, 0.25, 0.05, 1.5),
        (0.10, 2.5, 1.2, 12.0, 2.5, 0.03, 0.01, 0.0, 0.3),
    ]
)


def sessions(
    *,
    rows: int = 10_000,
    rate: float = 0.02,
    severity: float = 1.0,
    patterns: Sequence[str] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Sessions of a web application, in no order.

    Columns: `hour` (start, local time, hours, 0 <= hour < 24), `duration` (seconds), `requests`, `pages` (different
    ones), `failed_logins`, `distinct_ips` (addresses the session was seen from), `downloaded` (megabytes).

    Patterns: `bot` (point): many pages at a pace no person keeps. `brute_force` (point): wrong passwords in quick
    succession from several addresses. `odd_access` (contextual): what this user does is usual, and so is the hour,
    but not the two together.
    """
    asked = order(GENERATOR, seed=seed, rows=rows, rate=rate, severity=severity, patterns=patterns)
    x, user = _normal(asked.random("normal"), asked.rows)
    changed = choose(asked.random("place"), asked.counts, np.ones(asked.rows, bool), odd_access=user > 0)
    y = {name: column.copy() for name, column in x.items()}
    for name, at in changed.items():
        _INJECT[name](asked, x, y, at, user)
    return labelled(y, changed)


def _normal(random: Random, n: int) -> tuple[Columns, Integers]:
    user = random.choice(len(_USERS), n, p=_USERS[:, 0])
    _, hour, width, minutes, pace, pages, wrong, addresses, size = _USERS[user].T
    duration = lognormal(random, 60 * minutes, 0.6, n)
    failed = counted(random, wrong, 0.7)
    requests = 1 + failed + counted(random, duration / lognormal(random, pace, 0.25, n), 15)
    return {
        "hour": of_day(random.normal(hour, width)),
        "duration": duration,
        "requests": requests,
        "pages": 1 + random.binomial(requests - 1, pages),
        "failed_logins": failed,
        "distinct_ips": 1 + random.poisson(addresses),
        "downloaded": lognormal(random, size * requests, 0.5, n),
    }, user


def _bot(asked: Order, x: Columns, y: Columns, at: Integers, user: Integers) -> None:
    random = asked.random("bot")
    n, before = len(at), x["requests"][at]
    y["requests"][at] = now = _more(before, toward(before, lognormal(random, 2500, 0.5, n), asked.severity), 10**7)
    y["pages"][at] = x["pages"][at] + random.binomial(now - before, random.beta(8, 2, n))
    pace = toward(x["duration"][at] / before, lognormal(random, 0.15, 0.4, n), asked.severity)
    y["duration"][at] = np.clip(pace * now, 0.5, 86_400)
    y["downloaded"][at] = x["downloaded"][at] * (now / before) ** 0.5


def _brute_force(asked: Order, x: Columns, y: Columns, at: Integers, user: Integers) -> None:
    random = asked.random("brute_force")
    tries = random.poisson(asked.severity**1.5 * lognormal(random, 14, 0.5, len(at)))
    y["failed_logins"][at] = x["failed_logins"][at] + tries
    y["requests"][at] = x["requests"][at] + tries
    y["distinct_ips"][at] = x["distinct_ips"][at] + random.poisson(3 * asked.severity, len(at))
    quick = toward(x["duration"][at], lognormal(random, 45, 0.5, len(at)), min(asked.severity, 1.0))
    y["duration"][at] = np.maximum(quick, 1.0)


def _odd_access(asked: Order, x: Columns, y: Columns, at: Integers, user: Integers) -> None:
    """The hour of another session, at which users of this kind are hardly ever there."""
    hour = (x["hour"] // 2).astype(np.int64)
    usual = np.bincount(hour, minlength=12)[hour] >= 0.02 * asked.rows
    y["hour"][at] = x["hour"][exchange(asked.random("odd_access"), user, hour, at, asked.severity, usual)]


def _more(before: Integers, wanted: Floats, most: int) -> Integers:
    return np.maximum(np.minimum(wanted, most).astype(np.int64), before + 1)


_INJECT = {"bot": _bot, "brute_force": _brute_force, "odd_access": _odd_access}
GENERATOR = Generator("sessions", sessions, "table", "sessions of a web application", None, tuple(_INJECT))
