"""Card transactions, as a fraud desk sees them.

Normal: customers of five spending profiles (students, families, commuters, pensioners, travellers) and of different
means pay in nine categories. The category decides amount (lognormal), time of day (two humps), whether the card is
there and, with the profile, how far from home. The card's last payment was hours ago, or minutes on one outing.
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
    exchange,
    labelled,
    lengths,
    lognormal,
    moved,
    number,
    of_day,
    order,
    place,
    steps,
    toward,
)

# by category: median of the amount and spread of its logarithm; two humps a day: share of the first, middle and width
# of the first, middle and width of the second (hours); share paid online; share paid on a trip
_CATEGORIES = {
    "grocery": (38, 0.6, 0.35, 11, 1.8, 17.8, 1.6, 0.06, 0.02),
    "restaurant": (24, 0.55, 0.4, 12.7, 0.8, 19.8, 1.3, 0.08, 0.1),
    "bar": (16, 0.5, 0.3, 19.5, 1.2, 23.8, 2, 0, 0.08),
    "fuel": (52, 0.3, 0.5, 7.8, 1.2, 17.3, 1.7, 0, 0.15),
    "transit": (3.2, 0.45, 0.5, 8, 0.9, 17.5, 1.3, 0.3, 0.06),
    "clothing": (58, 0.7, 0.6, 14.5, 2, 17, 1.5, 0.45, 0.05),
    "electronics": (150, 0.9, 0.5, 15.5, 2.2, 20.8, 1.5, 0.6, 0.03),
    "travel": (260, 0.8, 0.5, 13, 3, 20.5, 1.8, 0.85, 0.45),
    "digital": (6, 0.9, 0.3, 14, 4, 23.5, 2.8, 1, 0.03),
}
_NAMES = np.array(list(_CATEGORIES), object)
_BY_CATEGORY = np.array(list(_CATEGORIES.values()))
_CLOTHING, _DIGITAL = 5, 8
# by profile (students, families, commuters, pensioners, travellers): share of customers; how much they spend, and how
# often they are on a trip, relative to the above; then how often they pay in each category
_PROFILES = np.array(
    [
        (0.20, 0.60, 0.7, 0.20, 0.12, 0.18, 0.02, 0.15, 0.08, 0.03, 0.02, 0.20),
        (0.30, 1.15, 0.6, 0.40, 0.08, 0.03, 0.14, 0.03, 0.12, 0.05, 0.03, 0.12),
        (0.25, 1.00, 1.0, 0.24, 0.15, 0.09, 0.11, 0.20, 0.05, 0.03, 0.03, 0.10),
        (0.15, 0.90, 0.5, 0.54, 0.09, 0.01, 0.12, 0.06, 0.08, 0.02, 0.03, 0.05),
        (0.10, 1.60, 2.0, 0.12, 0.26, 0.14, 0.09, 0.09, 0.05, 0.03, 0.14, 0.08),
    ]
)


def transactions(
    *,
    rows: int = 10_000,
    rate: float = 0.01,
    severity: float = 1.0,
    patterns: Sequence[str] | None = None,
    duration: float = 8,
    seed: int = 0,
) -> pa.Table:
    """Card transactions of many customers. Rows are in no order, but those of one card-testing burst stand together.

    Columns: `amount` (currency units), `merchant_category` (text), `hour` (local time, hours, 0 <= hour < 24),
    `distance` (km from the customer's home), `minutes_since_last` (since the card's last payment), `card_present` (0
    or 1).

    Patterns: `large_amount` (point): the amount is far too large. `odd_hour_place` (contextual): hour and distance are
    usual, in this category they are not. `card_testing` (collective): a burst of small online payments, minutes apart,
    in `duration` rows on average.
    """
    asked = order(GENERATOR, seed=seed, rows=rows, rate=rate, severity=severity, patterns=patterns)
    duration = number("duration", duration, 1, 1e6, "1 <= duration < 1e6")
    x = _normal(asked.random("normal"), asked.rows)
    where = asked.random("place")
    bursts = {"card_testing": lengths(where, asked.counts.get("card_testing", 0), duration)}
    spans = place(where, bursts, 0, asked.rows)
    testing = steps(spans)
    free = ~np.isin(np.arange(asked.rows), testing.get("card_testing", []))
    changed = choose(where, {name: n for name, n in asked.counts.items() if name != "card_testing"}, free)
    y = {name: column.copy() for name, column in x.items()}
    for name, at in changed.items():
        {"large_amount": _large_amount, "odd_hour_place": _odd_hour_place}[name](asked, x, y, at)
    _card_testing(asked, x, y, [(start, stop) for _, start, stop in spans])
    y["merchant_category"] = _NAMES[y["merchant_category"]]
    return labelled(y, {**changed, **testing})


def _normal(random: Random, n: int) -> Columns:
    customers = max(1, n // 25)
    profile = random.choice(len(_PROFILES), customers, p=_PROFILES[:, 0])
    means = lognormal(random, _PROFILES[profile, 1], 0.3, customers)
    customer = random.integers(0, customers, n)
    upto = np.cumsum(_PROFILES[profile[customer], 3:], axis=1)
    category = np.minimum((random.random((n, 1)) > upto).sum(1), len(_NAMES) - 1)
    median, sigma, share, middle1, width1, middle2, width2, paid_online, paid_away = _BY_CATEGORY[category].T
    first, hump = random.random(n) < share, random.standard_normal(n)
    hour = np.where(first, middle1 + width1 * hump, middle2 + width2 * hump)
    amount = lognormal(random, median * means[customer] ** 0.7, sigma, n)
    online = random.random(n) < paid_online
    away = random.random(n) < paid_away * _PROFILES[profile[customer], 2]
    near, far = lognormal(random, np.where(online, 1.0, 3.5), 0.8, n), lognormal(random, 240, 0.8, n)
    outing = random.random(n) < np.where(category == _DIGITAL, 0.25, 0.12)
    minutes = lognormal(random, np.where(category == _DIGITAL, 5, 18), 0.9, n)
    apart = np.where(outing, minutes, lognormal(random, 1100, 1.0, n))
    return {
        "amount": np.maximum(amount.round(2), 0.2),
        "merchant_category": category,
        "hour": of_day(hour),
        "distance": np.where(away, far, near),
        "minutes_since_last": np.clip(apart, 0.5, 86_400),
        "card_present": (~online).astype(np.int64),
    }


def _large_amount(asked: Order, x: Columns, y: Columns, at: Integers) -> None:
    random = asked.random("large_amount")
    new = toward(x["amount"][at], lognormal(random, 3500, 0.6, len(at)), asked.severity)
    y["amount"][at] = moved(np.clip(new, 0.2, 100_000).round(2), x["amount"][at], 0.01).round(2)


def _odd_hour_place(asked: Order, x: Columns, y: Columns, at: Integers) -> None:
    """Hour and distance of another row, such that both are usual and this category hardly ever sees them."""
    hour, distance = (x["hour"] // 2).astype(np.int64), x["distance"]
    far = np.digitize(distance, (15, 60))
    usual = (np.bincount(hour, minlength=12)[hour] >= 0.03 * asked.rows) & (distance <= np.quantile(distance, 0.97))
    random = asked.random("odd_hour_place")
    donor = exchange(random, x["merchant_category"], hour * 3 + far, at, asked.severity, usual)
    y["hour"][at], y["distance"][at] = x["hour"][donor], distance[donor]


def _card_testing(asked: Order, x: Columns, y: Columns, spans: Sequence[tuple[int, int]]) -> None:
    """A stolen number is tried out: small payments, online, from one place, minutes apart."""
    random = asked.random("card_testing")
    full = min(asked.severity, 1.0)
    for start, stop in spans:
        at, n = slice(start, stop), stop - start
        small = toward(x["amount"][at], random.uniform(0.5, 3.0, n), full).round(2)
        y["amount"][at] = moved(np.maximum(small, 0.2), x["amount"][at], 0.01).round(2)
        gaps = toward(x["minutes_since_last"][at], lognormal(random, 3, 0.7, n), asked.severity)
        gaps[0] = x["minutes_since_last"][start]
        y["minutes_since_last"][at] = gaps = np.maximum(gaps, 0.05)
        told = random.random(n) < full  # the others keep what was bought, when and where
        taken = {
            "merchant_category": np.where(random.random(n) < 0.8, _DIGITAL, _CLOTHING),
            "card_present": np.zeros(n, np.int64),
            "hour": of_day(x["hour"][start] + np.cumsum([0, *gaps[1:]]) / 60),
            "distance": np.full(n, x["distance"][start]),
        }
        for name, column in taken.items():
            y[name][at] = np.where(told, column, x[name][at])


_PATTERNS = ("large_amount", "odd_hour_place", "card_testing")
GENERATOR = Generator("transactions", transactions, "table", "card transactions of customers", None, _PATTERNS)
