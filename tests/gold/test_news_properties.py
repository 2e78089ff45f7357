"""Stories and what they repeat: the SQL agrees with brute force, whatever days a run computes.

Titles are random: words of a small vocabulary, edited copies of earlier titles, other case and
punctuation, other scripts. The reference compares every copy with every earlier one.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stream.feeds import load_feed

pytestmark = pytest.mark.slow  # dbt compiles the project: 10 s and more

FIRST_DAY = date(2026, 11, 16)
DAYS = 6
LATE_DAY = FIRST_DAY + timedelta(days=2)
MODELS = (
    "stg_news__stories",
    "int_news_titles",
    "int_news_tokens",
    "int_news_similar",
    "fct_stories",
    "fct_news_symbol_day",
)
WORDS = (  # noqa: SIM905  # quoted words read worse
    "acme beats cuts outlook margins quarter inquiry accounts buyback supply contract officer "
    "région société données 株式 市場 a to of 10 2027 x1"
).split()


@dataclass(frozen=True)
class Copy:
    source: str
    story_id: str
    symbols: str
    title: str
    publisher: str | None
    ts_ns: int
    arrival_ns: int

    @property
    def key(self) -> str:
        return f"{self.source}|{self.story_id}|{self.symbols}"

    @property
    def day(self) -> date:
        return datetime.fromtimestamp(self.ts_ns // 10**9, UTC).date()

    @property
    def order(self) -> tuple[int, int, str]:
        return (self.ts_ns, self.arrival_ns, self.key)


def random_copies(luck: random.Random, count: int) -> list[Copy]:
    """Stories of some days; many titles repeat or nearly repeat another."""
    start = int(datetime(*FIRST_DAY.timetuple()[:3], tzinfo=UTC).timestamp())
    titles: list[str] = []
    copies = []
    for number in range(count):
        if titles and luck.random() < 0.6:
            words = luck.choice(titles).split(" ")
            for _ in range(luck.choice((0, 0, 1, 1, 2))):
                words[luck.randrange(len(words))] = luck.choice(WORDS)
        else:
            words = luck.choices(WORDS, k=luck.randint(1, 9))
        title = " ".join(words)
        titles.append(title)
        if luck.random() < 0.3:
            title = title.upper().replace(" ", luck.choice((" - ", ": ", "  ", "…")), 1) + "!"
        if luck.random() < 0.03:
            title = luck.choice(("?!", "…"))
        copies.append(
            Copy(
                luck.choice(("fmp", "rss")),
                str(number),
                luck.choice(("A", "B", "A,B", "", "A,A")),
                title,
                luck.choice(("Wire", "Paper", None)),
                # few distinct times: ties are part of it
                (start + luck.randrange(DAYS * 24) * 3_600) * 10**9,
                (start + luck.randrange(3) * 86_400) * 10**9,
            )
        )
    return copies


def silver(copies: Sequence[Copy]) -> pa.Table:
    """As the feed's Silver table."""
    rows = [
        {
            "source": c.source,
            "story_id": c.story_id,
            "symbols": c.symbols,
            "title": c.title,
            "text": "",
            "publisher": c.publisher,
            "ts_published_ns": c.ts_ns,
            "ts_event": datetime.fromtimestamp(c.ts_ns // 10**9, UTC).replace(tzinfo=None),
            "ts_arrival_ns": c.arrival_ns,
            "is_late": False,
            "shard": "s",
            "sequence_number": str(number),
            "line_no": 0,
            "slice_id": "s/0",
        }
        for number, c in enumerate(copies)
    ]
    return pa.Table.from_pylist(rows, schema=load_feed("news").silver_schema)


def plain(title: str) -> str:
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in title.lower())
    return re.sub(" +", " ", "".join(kept)).strip()


def similarity(one: str, other: str) -> float:
    """Token Jaccard; equal plain titles are alike even without a token."""
    if (plain(one) or one.lower()) == (plain(other) or other.lower()):
        return 1.0
    a, b = ({w for w in plain(t).split(" ") if len(w) >= 3} for t in (one, other))
    return len(a & b) / len(a | b) if a | b else 0.0


def brute_force(copies: Sequence[Copy]) -> dict[str, dict[str, Any]]:
    """Every copy against every earlier one of its day and the two days before."""
    found: dict[str, dict[str, Any]] = {}
    counts: dict[tuple[date, str], int] = {}
    ordered = sorted(copies, key=lambda c: c.order)
    for number, copy in enumerate(ordered):
        earlier = [
            (similarity(copy.title, c.title), c)
            for c in ordered[:number]
            if timedelta(0) <= copy.day - c.day <= timedelta(days=2)
        ]
        alike = [c for score, c in earlier if score >= 0.8]
        best = max((score for score, _ in earlier if score >= 0.5), default=0.0)
        group = alike[0].key if alike else copy.key
        counts[copy.day, group] = counts.get((copy.day, group), 0) + 1
        found[copy.key] = {
            "story_group": group,
            "novelty": round(1 - best, 6),
            "copies_so_far": counts[copy.day, group],
            "is_novel": not alike,
            "event_day": copy.day,
        }
    return found


def per_symbol(
    copies: Sequence[Copy], stories: dict[str, dict[str, Any]]
) -> dict[tuple[str, date], tuple[int, int, int, float]]:
    """Stories, groups, sources and mean novelty per symbol and day."""
    named: dict[tuple[str, date], list[Copy]] = {}
    for copy in sorted(copies, key=lambda c: c.order):
        for symbol in {s for s in copy.symbols.split(",") if s}:
            named.setdefault((symbol, copy.day), []).append(copy)
    found = {}
    for key, of_day in named.items():
        first: dict[str, str] = {}
        for copy in of_day:
            first.setdefault(stories[copy.key]["story_group"], copy.publisher or copy.source)
        novelty = sum(stories[c.key]["novelty"] for c in of_day) / len(of_day)
        found[key] = (len(of_day), len(first), len(set(first.values())), novelty)
    return found


@pytest.fixture(scope="module")
def whole(compile_gold: Callable[..., Any]) -> Any:
    return compile_gold(None)


@pytest.fixture(scope="module")
def one_day(compile_gold: Callable[..., Any]) -> Any:
    return compile_gold((LATE_DAY.isoformat(),))


MANY = settings(
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),  # shrinking a seed takes minutes and explains nothing
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@MANY
@given(seed=st.integers(0, 2**32), count=st.integers(1, 120))
def test_stories_equal_brute_force_over_all_pairs(
    whole: Any, gold_tables: Any, seed: int, count: int
) -> None:
    luck = random.Random(seed)
    copies = random_copies(luck, count)
    gold_tables.put("lake.silver.news", silver(copies))
    gold_tables.build(whole, *MODELS)
    rows = gold_tables.rows(f"from {whole.relation['fct_stories']}")
    expected = brute_force(copies)
    assert {row["story_key"] for row in rows} == set(expected)
    for row in rows:
        wanted = expected[row["story_key"]]
        assert {name: row[name] for name in wanted} == wanted, row["title"]
    days = gold_tables.rows(f"from {whole.relation['fct_news_symbol_day']}")
    counted = per_symbol(copies, expected)
    assert {(row["symbol"], row["event_day"]) for row in days} == set(counted)
    for row in days:
        stories, groups, sources, novelty = counted[row["symbol"], row["event_day"]]
        assert (row["stories"], row["groups"], row["sources"]) == (stories, groups, sources)
        assert row["mean_novelty"] == pytest.approx(novelty, abs=2e-6)


@MANY
@given(seed=st.integers(0, 2**32), count=st.integers(1, 120))
def test_late_stories_of_a_day_change_what_a_whole_run_would_change(
    whole: Any, one_day: Any, gold_tables: Any, seed: int, count: int
) -> None:
    luck = random.Random(seed)
    copies = random_copies(luck, count)
    late = {c.key for c in copies if c.day == LATE_DAY and luck.random() < 0.5}
    gold_tables.put("lake.silver.news", silver([c for c in copies if c.key not in late]))
    gold_tables.build(whole, *MODELS)
    gold_tables.put("lake.silver.news", silver(copies))
    reached = [f"date '{LATE_DAY + timedelta(days=by)}'" for by in range(3)]
    that_day, that_and_two_more = f"event_day = {reached[0]}", f"event_day in ({','.join(reached)})"
    for _ in range(2):  # the second time changes nothing
        gold_tables.build(one_day, "stg_news__stories")
        gold_tables.build(one_day, "int_news_titles", "int_news_tokens", forget=that_day)
        gold_tables.build(one_day, *MODELS[3:], forget=that_and_two_more)
        partial = {
            m: sorted(map(str, gold_tables.rows(f"from {one_day.relation[m]}"))) for m in MODELS
        }
    gold_tables.build(whole, *MODELS)
    for model, rows in partial.items():
        assert rows == sorted(map(str, gold_tables.rows(f"from {whole.relation[model]}"))), model


def test_a_repeated_row_that_came_late_is_one_copy(whole: Any, gold_tables: Any) -> None:
    first = Copy("rss", "1", "A", "acme cuts outlook", None, 1_764_000_000 * 10**9, 5)
    again = Copy("rss", "1", "A", "acme cuts outlook!", None, first.ts_ns, 9)
    gold_tables.put("lake.silver.news", silver([again, first]))
    gold_tables.build(whole, *MODELS)
    rows = gold_tables.rows(f"from {whole.relation['fct_stories']}")
    assert [(row["title"], row["first_seen_ns"], row["novelty"]) for row in rows] == [
        ("acme cuts outlook", 5, 1.0)
    ]
