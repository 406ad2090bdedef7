"""Synthetic data: labels are exact, normal rows are what the docstrings say, anomalies are of their kind."""

from collections import Counter
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepad.data.synthetic import GENERATORS, Generator, generate
from deepad.data.synthetic.base import exchange, lengths, place
from deepad.errors import DeepadError, InputError

TABLES = [name for name, generator in GENERATORS.items() if generator.kind == "table"]
SERIES = [name for name, generator in GENERATORS.items() if generator.kind == "series"]
PATTERNS = [(name, pattern) for name, generator in GENERATORS.items() for pattern in generator.patterns]
CONTEXTUAL = [
    ("transactions", "odd_hour_place"), ("agents", "exfiltration"), ("sessions", "odd_access"),
    ("network", "exfiltration"),
]  # fmt: skip
POINT = [
    ("transactions", "large_amount"), ("agents", "runaway_loop"), ("agents", "degraded"), ("sessions", "bot"),
    ("sessions", "brute_force"), ("network", "ddos"), ("network", "port_scan"),
]  # fmt: skip
SHARES = ("outbound_ratio", "error_rate", "card_present")


def columns(table):
    """The columns that are data, as arrays."""
    return {name: np.asarray(table[name].to_pylist()) for name in table.column_names[:-2]}


def numeric(table):
    return {name: column for name, column in columns(table).items() if column.dtype.kind in "if"}


def labels(table):
    return table["label"].to_numpy()


def spans(table, pattern):
    """First row and row after the last of every run of a pattern."""
    marked = np.r_[0, [name == pattern for name in table["pattern"].to_pylist()], 0]
    edges = np.flatnonzero(np.diff(marked))
    return list(zip(edges[::2], edges[1::2], strict=True))


# ---- exact labels ------------------------------------------------------------------------------------------------


@given(
    name=st.sampled_from(list(GENERATORS)),
    seed=st.integers(0, 2**40),
    rows=st.integers(10, 300),
    rate=st.floats(0, 0.45),
    severity=st.floats(0.001, 10),
)
@settings(max_examples=150, deadline=None)
def test_a_row_is_labelled_if_and_only_if_it_was_altered(name, seed, rows, rate, severity):
    generator = GENERATORS[name]
    begin = {"anomaly_free": 0.0} if generator.kind == "series" else {}
    table = generate(name, seed=seed, rows=rows, rate=rate, severity=severity, **begin)
    clean = generate(name, seed=seed, rows=rows, rate=0)
    altered = np.any([a != b for a, b in zip(columns(table).values(), columns(clean).values(), strict=True)], axis=0)
    assert np.array_equal(labels(table) == 1, altered)
    assert labels(table).sum() == round(rate * rows)
    assert not labels(clean).any()
    counts = Counter(table["pattern"].to_pylist())
    assert counts.pop("", 0) == rows - round(rate * rows)
    assert counts.keys() <= set(generator.patterns)
    assert max(counts.values(), default=0) - min((counts[p] for p in generator.patterns), default=0) <= 1
    check_bounds(name, numeric(table))


def check_bounds(name, x):
    for column in x.values():
        assert np.isfinite(column).all()
        assert (column >= 0).all() or name == "sensors"
    for share in SHARES:
        assert (x.get(share, np.zeros(1)) <= 1).all()
    assert (x.get("hour", np.zeros(1)) < 24).all()
    if name == "transactions":
        assert (x["amount"] >= 0.01).all()
        assert np.array_equal(x["amount"].round(2), x["amount"])
    if name == "agents":
        assert ((x["tools"] >= 1) & (x["tools"] <= 10)).all()
        failed = x["error_rate"] * x["api_calls"]
        assert np.allclose(failed, np.rint(failed))
    if name == "sessions":
        assert (x["requests"] >= x["pages"]).all()
        assert (x["requests"] > x["failed_logins"]).all()
        assert (x["pages"] >= 1).all()
    if name == "network":
        assert (x["bytes"] >= 40 * x["packets"]).all()
        assert (x["bytes"] <= 1501 * x["packets"]).all()
        assert (x["packets"] >= x["flows"]).all()
        assert (x["flows"] >= x["refused"]).all()
    if name == "sensors":
        assert all((x[sensor] >= 0).all() for sensor in ("pressure", "vibration", "flow"))
        assert (x["temperature"] > -60).all()


@pytest.mark.parametrize("name", GENERATORS)
def test_a_table_ends_in_label_and_pattern_and_a_series_begins_with_its_time(name):
    generator = GENERATORS[name]
    table = generate(name, rows=100, rate=0.1)
    assert isinstance(generator, Generator)
    assert generator.name == name
    assert table.schema.names[-2:] == ["label", "pattern"]
    assert table.schema.field("label").type == pa.int64()
    assert table.schema.field("pattern").type == pa.string()
    assert all(column.null_count == 0 for column in table.columns)
    assert (generator.time is None) == (generator.kind == "table")
    if generator.time:
        assert table.schema.names[0] == generator.time
        assert table.schema.field(generator.time).type == pa.timestamp("ms")
        assert len(set(np.diff(table[generator.time].to_numpy()))) == 1


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_gives_the_same_table_and_another_seed_another(name):
    first, again, other = (generate(name, rows=200, rate=0.1, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not any(np.array_equal(numeric(first)[column], numeric(other)[column]) for column in numeric(first))


@pytest.mark.parametrize("name", GENERATORS)
def test_anomalies_stay_where_they_are_at_any_severity(name):
    mild, strong = (generate(name, rows=500, rate=0.1, seed=3, severity=severity) for severity in (0.2, 3))
    assert mild["pattern"].equals(strong["pattern"])


@pytest.mark.parametrize(("name", "pattern"), PATTERNS)
def test_patterns_can_be_chosen(name, pattern):
    for chosen in (pattern, [pattern], [pattern, pattern]):
        table = generate(name, rows=400, rate=0.1, patterns=chosen)
        assert Counter(table["pattern"].to_pylist()) == {"": 360, pattern: 40}


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("anomaly_free", [0, 0.3, 0.9])
def test_a_series_begins_without_anomalies(name, anomaly_free):
    table = generate(name, rows=1000, rate=0.05, anomaly_free=anomaly_free)
    assert labels(table).sum() == 50
    assert labels(table)[: round(1000 * anomaly_free)].sum() == 0


@pytest.mark.parametrize(
    ("name", "pattern"), [("network", "ddos"), ("sensors", "drift"), ("transactions", "card_testing")]
)
def test_duration_is_the_mean_length_of_an_episode(name, pattern):
    for duration in (1, 5, 20):
        found = spans(generate(name, rows=4000, rate=0.05, patterns=pattern, duration=duration), pattern)
        assert len(found) == 200 / duration


def test_spikes_last_one_step_and_a_stuck_sensor_repeats_the_last_good_value():
    table = generate("sensors", rows=4000, rate=0.1, seed=2)
    assert all(stop - start == 1 for start, stop in spans(table, "spike"))
    x = numeric(table)
    for start, stop in spans(table, "stuck"):
        held = [sensor for sensor in x if (x[sensor][start:stop] == x[sensor][start - 1]).all()]
        assert len(held) == 1
        assert labels(table)[start - 1] == 0


def test_intervals_and_periods_are_in_the_units_that_are_said():
    traffic = generate("network", rows=50, interval=15)
    assert np.diff(traffic["timestamp"].to_numpy())[0] == np.timedelta64(15, "m")
    readings = generate("sensors", rows=2000, rate=0, interval=0.5, period=100)
    assert np.diff(readings["timestamp"].to_numpy())[0] == np.timedelta64(500, "ms")
    spectrum = np.abs(np.fft.rfft(np.array(readings["flow"]) - np.mean(readings["flow"])))
    assert 2000 / np.argmax(spectrum) == pytest.approx(100)


# ---- what is normal ----------------------------------------------------------------------------------------------


def test_the_category_of_a_payment_decides_amount_and_hour():
    x = columns(generate("transactions", rate=0))
    log = {category: np.log(x["amount"][x["merchant_category"] == category]) for category in ("travel", "transit")}
    assert np.median(log["travel"]) - np.median(log["transit"]) > 3
    assert abs(np.mean(log["travel"]) - np.median(log["travel"])) < 0.1  # symmetric on the log scale
    night = (x["hour"] < 4) | (x["hour"] > 23)
    assert night[x["merchant_category"] == "bar"].mean() > 0.2
    assert night[x["merchant_category"] == "grocery"].mean() < 0.01


def test_agents_differ_by_role_and_their_counts_vary_more_than_poisson_counts():
    x = numeric(generate("agents", rate=0))
    assert np.corrcoef(np.log(x["actions_per_minute"]), np.log1p(x["api_calls"]))[0, 1] > 0.7
    assert x["api_calls"].var() > 10 * x["api_calls"].mean()


def test_traffic_follows_the_day_the_weekday_and_a_nightly_backup():
    table = generate("network", rate=0)
    at, x = table["timestamp"].to_numpy().astype("datetime64[m]").astype(int), numeric(table)
    hour, weekend = at // 60 % 24, (at // 1440 + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    flows = x["flows"]
    assert flows[(hour == 11) & ~weekend].mean() > 5 * flows[hour == 4].mean()
    assert flows[(hour == 11) & ~weekend].mean() > 2 * flows[(hour == 11) & weekend].mean()
    assert x["outbound_ratio"][hour == 3].min() > 0.5 > x["outbound_ratio"][(hour > 5) & (hour < 23)].max()


def test_sensors_are_coupled_through_the_load():
    x = numeric(generate("sensors", rate=0))
    coupling = np.corrcoef([x["pressure"], x["vibration"], x["flow"]])
    assert coupling.min() > 0.9
    lagged = [np.corrcoef(x["flow"][: -lag or None], x["temperature"][lag:])[0, 1] for lag in (0, 15)]
    assert lagged[0] < lagged[1]


def test_staff_works_by_day_and_the_technical_user_by_night():
    x = numeric(generate("sessions", rate=0))
    assert 8 < np.median(x["hour"][x["duration"] > 6000]) < 14
    assert np.median(x["hour"][x["duration"] / x["requests"] < 4]) < 6
    assert np.corrcoef(np.log(x["duration"]), np.log(x["requests"]))[0, 1] > 0.6


# ---- what is not: views that find the anomalies, or must not --------------------------------------------------------


def by_column(table, normal):
    """How rare a row's rarest value is among normal values of its column: what one column alone can tell."""
    rarest = np.ones(len(table))
    reference = numeric(normal)
    for name, x in numeric(table).items():
        ordered = np.sort(reference[name])
        below = np.searchsorted(ordered, x, "right") / len(ordered)
        above = 1 - np.searchsorted(ordered, x, "left") / len(ordered)
        rarest = np.minimum(rarest, np.minimum(below, above))
    return -rarest


def features(table):
    """Columns on scales a distance understands: logarithms, hours on a circle, categories as corners."""
    parts = []
    for name, x in columns(table).items():
        if name == "merchant_category":
            parts += [x == category for category in ("grocery", "restaurant", "bar", "fuel", "transit", "clothing")]
            parts += [x == category for category in ("electronics", "travel", "digital")]
        elif name in ("hour", "timestamp"):
            hour = x if name == "hour" else table[name].to_numpy().astype("datetime64[s]").astype(int) / 3600
            parts += [np.sin(hour * np.pi / 12), np.cos(hour * np.pi / 12)]
        else:
            parts.append(x if name in SHARES else np.log(x + 0.5))
    return np.stack(parts, axis=1).astype(float)


def by_neighbours(table, normal):
    """Distance to the fifth nearest normal row: what all columns together can tell."""
    scaler = StandardScaler().fit(features(normal))
    neighbours = NearestNeighbors(n_neighbors=5).fit(scaler.transform(features(normal)))
    return neighbours.kneighbors(scaler.transform(features(table)))[0][:, -1]


def by_other_sensors(table, normal):
    """The greatest deviation of a sensor from what the others, now and shortly before, make one expect."""
    x = numeric(table)
    return np.max(
        [np.abs(x[sensor] - model.predict(others(table, sensor))) / sd for sensor, model, sd in expectations()], axis=0
    )


@cache
def expectations():
    """Each sensor with the model that expects it from the others, and the standard deviation from that."""
    normal = generate("sensors", rows=6000, rate=0, seed=99)
    found = []
    for sensor, x in numeric(normal).items():
        past = others(normal, sensor)
        model = make_pipeline(StandardScaler(), Ridge()).fit(past, x)
        found.append((sensor, model, np.std(x - model.predict(past))))
    return found


def others(table, sensor):
    x = np.stack([column for name, column in numeric(table).items() if name != sensor], axis=1)
    past = np.hstack([np.vstack([np.repeat(x[:1], lag, axis=0), x[: len(x) - lag]]) for lag in (0, 10, 20, 40)])
    return np.hstack([past, past**2, np.sqrt(np.abs(past))])


@pytest.fixture(scope="module")
def normal():
    return {name: generate(name, rows=6000 if name == "sensors" else 3000, rate=0, seed=99) for name in GENERATORS}


def judged(name, pattern, severity, view, normal):
    """AUROC of a view for one pattern."""
    more = {"anomaly_free": 0.0} if GENERATORS[name].kind == "series" else {}
    more |= {"rows": 6000, "rate": 0.12} if name == "sensors" else {"rows": 3000, "rate": 0.06}
    table = generate(name, severity=severity, patterns=pattern, seed=3, **more)
    return roc_auc_score(labels(table), view(table, normal[name]))


@pytest.mark.parametrize(("name", "pattern"), PATTERNS)
def test_severity_makes_anomalies_stand_out(name, pattern, normal):
    view = by_other_sensors if name == "sensors" else by_neighbours
    none, mild, usual, strong = (judged(name, pattern, severity, view, normal) for severity in (0.001, 0.25, 1, 2))
    assert abs(none - 0.5) < 0.15
    assert mild < strong
    assert usual > (0.65 if pattern == "stuck" else 0.75)  # stuck at its usual value is no more than still


@pytest.mark.parametrize(("name", "pattern"), CONTEXTUAL)
def test_a_contextual_anomaly_is_found_by_columns_together_and_not_by_one(name, pattern, normal):
    alone = judged(name, pattern, 1, by_column, normal)
    together = judged(name, pattern, 1, by_neighbours, normal)
    assert alone < 0.75
    assert together > max(0.8, alone + 0.15)


@pytest.mark.parametrize(("name", "pattern"), POINT)
def test_a_point_anomaly_is_found_by_one_column(name, pattern, normal):
    assert judged(name, pattern, 1, by_column, normal) > 0.9


@pytest.mark.parametrize("pattern", ["level_shift", "drift", "stuck", "noise_burst"])
def test_a_faulty_sensor_hides_within_the_range_of_its_cycle(pattern, normal):
    alone = judged("sensors", pattern, 1, by_column, normal)
    assert alone < 0.75
    assert judged("sensors", pattern, 1, by_other_sensors, normal) > alone + 0.1


def test_card_testing_shows_in_a_run_of_rows_more_than_in_any_of_them(normal):
    table = generate("transactions", rows=3000, rate=0.06, patterns="card_testing", seed=3)
    rows = by_neighbours(table, normal["transactions"])
    runs = np.convolve(rows, np.ones(3) / 3, mode="same")
    assert roc_auc_score(labels(table), runs) > roc_auc_score(labels(table), rows)
    amounts = np.sort(columns(normal["transactions"])["amount"])
    for start, stop in spans(table, "card_testing"):
        x = {name: column[start:stop] for name, column in columns(table).items()}
        assert (x["amount"] <= 3.01).all()
        assert amounts[0] < np.median(x["amount"]), "a small amount by itself is nothing new"
        assert not x["card_present"].any()
        assert len(set(x["distance"])) == 1
        assert np.allclose(np.diff(x["hour"]) % 24 * 60, x["minutes_since_last"][1:])


# ---- the parts they share ----------------------------------------------------------------------------------------


@given(total=st.integers(0, 500), mean=st.floats(1, 100), seed=st.integers(0, 9))
@settings(deadline=None)
def test_lengths_add_up(total, mean, seed):
    found = lengths(np.random.default_rng(seed), total, mean)
    assert sum(found) == total
    assert all(length >= 1 for length in found)
    assert len(found) == (max(1, round(total / mean)) if total else 0)


@given(parts=st.lists(st.integers(1, 20), max_size=20), slack=st.integers(0, 30), seed=st.integers(0, 9))
@settings(deadline=None)
def test_episodes_keep_a_normal_row_between_them(parts, slack, seed):
    stop = 5 + sum(parts) + max(0, len(parts) - 1) + slack
    found = place(np.random.default_rng(seed), {"p": parts}, 5, stop)
    assert sorted(b - a for _, a, b in found) == sorted(parts)
    edges = [edge for _, a, b in found for edge in (a, b)]
    assert all(5 <= edge <= stop for edge in edges)
    assert all(a > b for (_, a, _), (_, _, b) in zip(found[1:], found[:-1], strict=True))


def test_exchange_goes_from_the_law_of_the_context_to_its_opposite():
    random = np.random.default_rng(0)
    context = random.integers(0, 2, 20_000)
    value = np.where(random.random(20_000) < 0.8, context, 1 - context)
    at, usual = np.flatnonzero(context == 0), np.ones(20_000, bool)
    share = {s: value[exchange(random, context, value, at, s, usual)].mean() for s in (0, 0.5, 1, 10)}
    assert share[0] == pytest.approx(0.2, abs=0.02)
    assert share[0.5] == pytest.approx(0.5, abs=0.02)
    assert share[1] == pytest.approx(0.8, abs=0.02)
    assert share[10] > 0.999
    donors = exchange(random, context, value, at, 1, value == 1)
    assert (value[donors] == 1).all()
    assert (donors != at).all()


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("nothing", {}, "give one of transactions, agents, network, sensors, sessions"),
        ("agents", {"duration": 3}, "agents takes no duration: it takes rows, rate, severity, patterns, seed"),
        ("sensors", {"rows": 9}, "rows must be a whole number from 10 to 10000000, got 9"),
        ("agents", {"rows": 10**12}, "got 1000000000000"),
        ("agents", {"rows": 100.0}, "rows must be a whole number"),
        ("agents", {"rows": True}, "rows must be a whole number"),
        ("agents", {"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ("agents", {"rate": 0.5}, "rate must be a number with 0 <= rate < 0.5, got 0.5"),
        ("agents", {"rate": -0.1}, "got -0.1"),
        ("agents", {"rate": float("nan")}, "got nan"),
        ("agents", {"rate": "much"}, "got 'much'"),
        ("agents", {"severity": 0}, "severity must be a number with 0.001 <= severity <= 10, got 0"),
        ("agents", {"severity": 11}, "got 11"),
        ("agents", {"patterns": ["x", "degraded"]}, "agents has no pattern x: give some of runaway_loop"),
        ("agents", {"patterns": []}, "patterns is empty: give some of runaway_loop"),
        ("transactions", {"duration": 0.5}, "duration must be a number with 1 <= duration"),
        ("network", {"interval": 0}, "interval must be a number with 0.01 <= interval <= 1440 (minutes)"),
        ("sensors", {"period": 3}, "period must be a whole number from 4"),
        ("sensors", {"anomaly_free": 1}, "0 <= anomaly_free < 1"),
        ("sensors", {"rows": 1000, "rate": 0.4, "anomaly_free": 0.7}, "300 are open to anomalies: lower rate"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_is_accepted(name, arguments, reason):
    with pytest.raises(InputError) as caught:
        generate(name, **arguments)
    assert isinstance(caught.value, DeepadError)
    assert reason in str(caught.value)
