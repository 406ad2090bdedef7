"""Budgets as people write them, and the level that follows."""

import pytest

from deepad.clock import duration, in_words
from deepad.scoring.budget import Budget


@pytest.mark.parametrize(
    ("text", "count", "seconds", "samples"),
    [
        ("2 per week", 2, 604_800, None),
        ("1 per day", 1, 86_400, None),
        ("0.5/hour", 0.5, 3600, None),
        ("5 a day", 5, 86_400, None),
        ("1 per 12 hours", 1, 43_200, None),
        ("1 every 10 min", 1, 600, None),
        ("3 per 10000", 3, None, 10_000),
        ("3 per 10_000 samples", 3, None, 10_000),
        ("1e-1 per month", 0.1, 30 * 86_400, None),
    ],
)
def test_a_budget_is_read_as_people_write_it(text, count, seconds, samples):
    budget = Budget.parse(text)
    assert (budget.count, budget.seconds, budget.samples, budget.text) == (count, seconds, samples, text)


@pytest.mark.parametrize("text", ["", "2", "per week", "2 per", "two per week", "0 per day", "-1 per day",
                                  "inf per day", "2 per fortnight", "1 per 0 days", "3 per 0",
                                  "nan per day"])  # fmt: skip
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="2 per week"):
        Budget.parse(text)


def test_the_level_of_samples_is_the_budget_over_their_number():
    assert Budget.parse("2 per week").alpha(Budget.parse("1000 per day")) == pytest.approx(2 / 7000)
    assert Budget.parse("3 per 10000").alpha(None) == 3e-4
    assert Budget.parse("1 per day").alpha(Budget.parse("1 per s")) == pytest.approx(1 / 86_400)


def test_a_budget_of_time_needs_the_volume_and_one_that_allows_everything_is_refused():
    with pytest.raises(ValueError, match="volume, say '20000 per day'"):
        Budget.parse("2 per week").alpha(None)
    with pytest.raises(ValueError, match="an alarm for every sample"):
        Budget.parse("2 per day").alpha(Budget.parse("1 per day"))
    with pytest.raises(ValueError, match="an alarm for every sample"):
        Budget.parse("5 per 5").alpha(None)


def test_a_budget_of_a_block_is_its_share_of_the_period():
    assert Budget.parse("2 per week").per(86_400) == pytest.approx(2 / 7)
    with pytest.raises(ValueError, match="counts samples"):
        Budget.parse("3 per 10000").per(86_400)


@pytest.mark.parametrize(
    ("text", "seconds"), [("day", 86_400), ("1 day", 86_400), ("2 weeks", 1_209_600), ("90 s", 90), ("1.5 h", 5400)]
)
def test_a_length_of_time_is_read_as_people_write_it(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "1 fortnight", "-1 day", "0 s", "1 day 2 hours", None])
def test_a_length_of_time_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="length of time"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(86_400, "1 day"), (604_800, "1 week"), (7200, "2 hours"), (90, "90 s"), (600, "10 min"), (0.5, "0.5 s")],
)
def test_a_length_of_time_in_words(seconds, words):
    assert in_words(seconds) == words
    assert duration(words) == seconds
