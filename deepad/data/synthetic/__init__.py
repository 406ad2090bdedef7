"""Synthetic data whose labels are exact: tables and series with point, contextual and collective anomalies.

    table = generate("transactions", rows=10_000, rate=0.02, severity=1.0, seed=0)

What is normal is drawn first; anomalies are then written into some of its rows, from random streams of their own. A row
is labelled if and only if it differs from the same row at `rate=0`, and exactly `round(rate * rows)` rows are labelled,
as evenly over the patterns as whole rows allow. `severity` says how far from normal they are: 1 is what the patterns
are made for, towards 0 they turn normal. The same arguments give the same table, bit for bit, with the same NumPy.

These data are made up: good for tests, teaching and trying things out, no evidence of how a detector does on yours.
"""

import inspect
from typing import Any

import pyarrow as pa

from deepad.data.synthetic import agents, network, sensors, sessions, transactions
from deepad.data.synthetic.base import Generator
from deepad.errors import InputError

__all__ = ["GENERATORS", "Generator", "generate"]

GENERATORS: dict[str, Generator] = {
    module.GENERATOR.name: module.GENERATOR for module in (transactions, agents, network, sensors, sessions)
}


def generate(name: str, *, seed: int = 0, **arguments: Any) -> pa.Table:
    """A table of synthetic data, which ends in the columns `label` (int64, 1 = anomaly) and `pattern` ("" = normal).

    Args:
        name: one of `GENERATORS`.
        seed: every other seed gives other data.
        arguments: those of the generator. All take `rows`, `rate` (share of anomalous rows, 0 <= rate < 0.5),
            `severity` (0.001 to 10) and `patterns` (which to inject; all of them if None). Series, and tables with
            bursts, take `duration`: mean rows of an episode. Series take `anomaly_free`: share of the beginning that
            stays without anomalies, to train on.

    Raises:
        InputError: an unknown name or argument, or a value out of range.
    """
    if name not in GENERATORS:
        raise InputError(f"no generator is called {name!r}: give one of {', '.join(GENERATORS)}")
    make = GENERATORS[name].make
    accepted = inspect.signature(make).parameters
    unknown = [argument for argument in arguments if argument not in accepted]
    if unknown:
        raise InputError(f"{name} takes no {' or '.join(unknown)}: it takes {', '.join(accepted)}")
    return make(seed=seed, **arguments)
