"""No planted e-mail address, IBAN or name reaches Silver, whatever feed, shape and column it is in.

Messages of every feed with personal data, in every shape, land as extracts through the dataflow.
Then everything under `silver/` is read: values, dictionaries, statistics, decompressed pages,
Iceberg's metadata. What is no personal data must be there unchanged, and Bronze byte for byte.
"""

from __future__ import annotations

import gzip
import io
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.replay.from_extract import replay_extracts
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.clock import ManualClock
from stream.decode import decode_records
from stream.errors import ConfigError
from stream.feeds import load_feed, load_feeds
from stream.feeds.contract import Contract
from stream.lake.connect import Lake, connect_lake
from stream.masking import HASHED, REDACTED
from stream.prove import prove_lake
from stream.query import run_query
from stream.settings import Settings, load_settings
from stream.slices import RECORD_SCHEMA

KEY = "a key of this test with more than 32 characters"
OTHER = "another key of this test with more than 32 characters"
T0_NS = 1_764_000_000_000_000_000
DAY = date(2025, 11, 20)
ALL_TIME = (0, 10**13)
ZSTD = re.compile(re.escape(b"\x28\xb5\x2f\xfd"))

Person = str | None
Build = Callable[[int, Person, str | None], bytes]
"""A message: its number, whose it is, and a note if the shape has one."""


def ms(ns: int) -> dict[str, Any]:
    return {"$date": {"$numberLong": str(ns // 1_000_000)}}


def mongo(number: int, person: Person, note: str | None, **more: Any) -> bytes:
    document = {
        "_id": {"$oid": f"{number:024x}"},
        "portfolio": f"p{number}",
        "currency": "EUR",
        "quantity": {"$numberInt": "5"},
        "account_holder": person,
        "updated_at": ms(T0_NS - 10**9),
        **more,
    }
    return orjson.dumps(document if note is None else {**document, "note": note})


MESSAGES: Mapping[tuple[str, str], Build] = {
    ("news", "canonical"): lambda n, person, _: orjson.dumps(
        {
            "source": "wire",
            "story_id": f"w{n}",
            "title": f"Story {n}",
            "publisher": person,
            "ts_published_ns": T0_NS - n,
        }
    ),
    ("news", "fmp_stock_news"): lambda n, person, _: orjson.dumps(
        {
            "publishedDate": "2025-11-20 10:00:00",
            "url": f"https://news.example/{n}",
            "title": f"Story {n}",
            "publisher": person,
            "symbol": "ACME",
        }
    ),
    ("news", "rss_item"): lambda n, person, _: orjson.dumps(
        {
            "guid": f"g{n}",
            "pubDate": "Thu, 20 Nov 2025 10:00:00 GMT",
            "title": f"Story {n}",
            "author": person,
        }
    ),
    ("transactions", "mongo_document"): lambda n, person, note: mongo(
        n, person, note, kind="deposit", executed_at=ms(T0_NS - 2 * 10**9)
    ),
    ("transactions", "canonical"): lambda n, person, note: orjson.dumps(
        {
            "transaction_id": f"t{n}",
            "portfolio": f"p{n}",
            "kind": "deposit",
            "currency": "EUR",
            "quantity": 5,
            "account_holder": person,
            "note": note,
            "ts_event_ns": T0_NS - n,
        }
    ),
    ("positions", "mongo_document"): lambda n, person, _: mongo(
        n, person, None, symbol="ACME", as_of=ms(T0_NS - 2 * 10**9)
    ),
    ("positions", "canonical"): lambda n, person, _: orjson.dumps(
        {
            "portfolio": f"p{n}",
            "as_of": "2025-11-20",
            "currency": "EUR",
            "quantity": 5,
            "account_holder": person,
        }
    ),
}
FEEDS = [name for name, contract in load_feeds().items() if contract.pii_columns]


def test_every_shape_of_every_feed_with_personal_data_is_planted() -> None:
    shapes = {(feed, shape.name) for feed in FEEDS for shape in load_feed(feed).shapes}
    assert set(MESSAGES) == shapes, "add a message for the new feed or shape"
    for (feed, _), build in MESSAGES.items():
        contract = load_feed(feed)
        planted = build(1, "Ada Example", "pay Ada Example")
        (row,) = decode(contract, [planted]).select(pii_names(contract)).to_pylist()
        assert all("Ada Example" in value for value in row.values()), (feed, row)


# What is planted


def iban(country: str, account: int) -> str:
    """With the check digits of ISO 13616."""
    basic = f"{account:018d}"
    digits = "".join(str(int(c, 36)) for c in f"{basic}{country}00")
    return f"{country}{98 - int(digits) % 97:02d}{basic}"


IBANS = st.builds(iban, st.sampled_from(["DE", "FR", "AT", "XK"]), st.integers(10**16, 10**18 - 1))
PARTS = st.sampled_from(
    [
        "Ada",
        "Zoë",
        "Zoe\u0308",
        "Łukasz",
        "Ngũgĩ",
        "O'Brien",
        "Müller-Lüdenscheidt",
        "李",
        "Δημήτρης",
    ]
)
LETTERS = st.text(st.characters(categories=["Lu", "Ll", "Lo", "Mn"]), min_size=4, max_size=12)
NAMES = st.builds("{} {} Xq{}".format, PARTS, LETTERS, PARTS)
SPACED = st.builds("{}{}{}".format, st.sampled_from(["", " "]), NAMES, st.sampled_from(["", " "]))
EMAILS = st.emails().map(lambda address: f"q{address}")
PEOPLE = st.one_of(NAMES, SPACED, EMAILS, IBANS)
NOTES = st.one_of(
    st.none(),
    st.just(""),
    st.builds("pay {} <{}> to {} by Friday".format, NAMES, EMAILS, IBANS),
)
ROWS = st.tuples(st.sampled_from(sorted(MESSAGES)), st.integers(0, 5), NOTES)
CASES = st.tuples(
    st.lists(st.one_of(PEOPLE, st.none()), min_size=6, max_size=6),
    st.lists(ROWS, min_size=1, max_size=30),
)
"""Six people, and messages that name one of them by number: the same one in several feeds."""


@settings(max_examples=5)
@given(CASES)
def test_no_planted_personal_data_reaches_silver(case: Any) -> None:
    check_masked(*case)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=60)
@given(CASES)
def test_no_personal_data_of_many_cases_reaches_silver(case: Any) -> None:
    check_masked(*case)


def check_masked(people: Sequence[Person], rows: Sequence[Any]) -> None:
    messages: dict[str, list[bytes]] = {}
    planted: set[str] = set()
    for number, ((feed, shape), person, note) in enumerate(rows):
        messages.setdefault(feed, []).append(MESSAGES[feed, shape](number, people[person], note))
        planted |= plants(people[person], note if feed == "transactions" else None)
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(Path(folder))
        landed = {feed: bed.land(feed, lines) for feed, lines in messages.items()}

        for feed, lines in messages.items():
            raw = decode(load_feed(feed), lines)
            check_rows(load_feed(feed), raw, bed.read(feed))
            bed.check_bronze(landed[feed], lines)
        check_join(bed, messages)
        for path, text in bed.silver_texts():
            found = [plant for plant in planted if plant.encode() in text]
            assert not found, f"{found} in {path}"
        bed.check_replays_change_nothing(landed)
        bed.check_other_key_is_refused(landed)


def check_rows(contract: Contract, raw: pa.Table, silver: pa.Table) -> None:
    """Silver is the decoded rows: personal data masked, all else as it was."""
    names = pii_names(contract)
    key = list(contract.key)
    order = [(name, "ascending") for name in key]
    raw, silver = raw.sort_by(order), silver.sort_by(order)
    assert silver.num_rows == raw.num_rows
    others = [name for name in contract.row_schema.names if name not in names]
    assert silver.select(others).to_pylist() == raw.select(others).to_pylist()
    for column in contract.pii_columns:
        assert column.pii is not None
        pairs = list(
            zip(raw[column.name].to_pylist(), silver[column.name].to_pylist(), strict=True)
        )
        assert all((value is None) == (masked is None) for value, masked in pairs)
        there = [(value, masked) for value, masked in pairs if value is not None]
        if column.pii.mask == "redact":
            assert {masked for _, masked in there} <= {REDACTED}
            continue
        assert all(re.fullmatch(rf"{HASHED}[0-9a-f]{{32}}", masked) for _, masked in there)
        by_value = {normal(value): masked for value, masked in there}
        assert all(by_value[normal(value)] == masked for value, masked in there)
        assert len(set(by_value.values())) == len(by_value)


def check_join(bed: Bed, messages: Mapping[str, list[bytes]]) -> None:
    """Rows of two feeds join by their owner as they did before."""
    if not {"transactions", "positions"} <= set(messages):
        return
    (joined,) = bed.ask(
        "SELECT count(*) AS n FROM transactions JOIN positions USING (account_holder)"
    )
    holders = {
        feed: [
            normal(holder)
            for holder in decode(load_feed(feed), messages[feed])["account_holder"].to_pylist()
            if holder is not None
        ]
        for feed in ("transactions", "positions")
    }
    expected = sum(holders["positions"].count(holder) for holder in holders["transactions"])
    assert joined["n"] == expected


class Bed:
    """A lake in a folder, filled by extracts."""

    def __init__(self, home: Path) -> None:
        self.settings = self.settings_with(home, KEY)
        self.lake: Lake = connect_lake(self.settings)
        self.clock = ManualClock(T0_NS + 10**9)

    @staticmethod
    def settings_with(home: Path, key: str) -> Settings:
        return load_settings(home=home, lake=f"file://{home}/lake", pii_key=key)

    def land(self, feed: str, lines: list[bytes]) -> Any:
        request = ExtractRequest(feed, DAY, DAY)
        manifest = land_extract(
            self.lake.store, Canned(lines), request, f"run-{feed}", clock=self.clock
        )
        report = self.replay(self.settings, feed, manifest)
        assert (report.rows_added, report.rejected) == (len(lines), {})
        return manifest

    def replay(self, settings: Settings, feed: str, manifest: Any) -> Any:
        lake = connect_lake(settings)
        return replay_extracts(
            settings, lake, load_feed(feed), [manifest], apply=True, clock=self.clock
        )

    def replay_range(self, settings: Settings, feed: str) -> Any:
        lake = connect_lake(settings)
        source = BronzeSource(lake.store)
        return replay_recorded(
            settings, lake, load_feed(feed), ALL_TIME, source, apply=True, clock=self.clock
        )

    def ask(self, sql: str) -> list[dict[str, Any]]:
        return run_query(self.settings, sql).to_pylist()

    def read(self, feed: str) -> pa.Table:
        return run_query(self.settings, f"SELECT * FROM {feed}")

    def silver_texts(self) -> Iterator[tuple[str, bytes]]:
        """All that can be read of what Silver is made of."""
        for info in self.lake.store.list("silver/"):
            data = self.lake.store.get(info.path)
            assert data is not None
            for text in texts_of(data, is_parquet=info.path.endswith(".parquet")):
                yield info.path, text
        for feed in self.lake.catalog.names():
            files = self.lake.catalog.open(feed).iceberg.inspect.files()
            yield feed, str(files.drop_columns(["readable_metrics"]).to_pylist()).encode()
        for info in self.lake.store.list("ledger/"):
            yield info.path, self.lake.store.get(info.path) or b""

    def check_bronze(self, manifest: Any, lines: Sequence[bytes]) -> None:
        data = self.lake.store.get(manifest.parts[0].path)
        assert data is not None
        assert gzip.decompress(data) == b"\n".join(lines)

    def check_replays_change_nothing(self, landed: Mapping[str, Any]) -> None:
        for feed, manifest in landed.items():
            before = self.lake.catalog.open(feed).snapshot_id
            assert self.replay(self.settings, feed, manifest).slices == 0
            assert self.replay_range(self.settings, feed).changed_slices == 0
            assert self.lake.catalog.open(feed).snapshot_id == before
            assert prove_lake(self.lake, load_feed(feed)).is_equal

    def check_other_key_is_refused(self, landed: Mapping[str, Any]) -> None:
        other = self.settings_with(self.settings.home, OTHER)
        for feed in landed:
            with pytest.raises(ConfigError, match="would not join"):
                self.replay_range(other, feed)


class Canned:
    """An extractor of given messages."""

    source = "books"

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    def feed_of(self, dataset: str) -> str:
        return dataset

    def mapping_of(self, dataset: str) -> dict[str, object]:
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        yield Part(gzip.compress(b"\n".join(self.lines), mtime=0), "jsonl.gz", len(self.lines))


def decode(contract: Contract, lines: Sequence[bytes]) -> pa.Table:
    """Rows as decoded, unmasked, one a line."""
    count = len(lines)
    columns = [
        pa.array(lines, pa.binary()),
        pa.array([str(i) for i in range(count)]),
        pa.array([0] * count, pa.int32()),
        pa.nulls(count, pa.string()),
        pa.array([T0_NS + 10**9] * count, pa.int64()),
    ]
    decoded = decode_records(contract, pa.record_batch(columns, schema=RECORD_SCHEMA))
    assert decoded.rejects.to_pylist() == []
    return decoded.rows


def pii_names(contract: Contract) -> list[str]:
    return [column.name for column in contract.pii_columns]


def normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def plants(person: Person, note: str | None) -> set[str]:
    """What must not be found: whole values, their other spelling, and the words of a note."""
    texts = {text.strip() for text in (person, note) if text and text.strip()}
    texts |= {unicodedata.normalize(form, text) for text in texts for form in ("NFC", "NFD")}
    words = {word for text in texts for word in re.split(r"[ <>]+", text) if len(word) >= 8}
    return texts | {
        word for word in words if not word.isascii() or "@" in word or word[4:].isdigit()
    }


def texts_of(data: bytes, *, is_parquet: bool) -> Iterator[bytes]:
    """A file as it lies there, and what a reader of it could see."""
    yield data
    for frame in ZSTD.finditer(data):
        yield unpack(data[frame.start() :])
    if not is_parquet:
        return
    footer = pq.read_metadata(io.BytesIO(data))
    yield str(footer.metadata).encode()
    for group in range(footer.num_row_groups):
        for number in range(footer.num_columns):
            chunk = footer.row_group(group).column(number)
            yield f"{chunk.statistics and chunk.statistics.to_dict()}".encode()
    names = footer.schema.to_arrow_schema().names
    for rows in (
        pq.read_table(io.BytesIO(data)),
        pq.read_table(io.BytesIO(data), read_dictionary=names),
    ):
        for column in rows.columns:
            yield str(column.to_pylist()).encode()
            for part in column.chunks:
                if pa.types.is_dictionary(part.type):  # also values that no row refers to
                    yield str(part.dictionary.to_pylist()).encode()


def unpack(data: bytes) -> bytes:
    """The zstd frame at the beginning; what follows it ends the reading."""
    stream, found = pa.CompressedInputStream(pa.BufferReader(data), "zstd"), bytearray()
    try:
        while byte := stream.read(1):
            found += byte
    except OSError:
        pass
    return bytes(found)


def test_search_finds_what_is_not_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds nothing would pass whatever the code does."""
    monkeypatch.setattr("stream.masking.Masker.mask_rows", lambda _, __, rows: rows)
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(Path(folder))
        bed.land("transactions", [MESSAGES["transactions", "canonical"](1, "Ada Example", "Xqy")])
        texts = list(bed.silver_texts())
    for planted in (b"Ada Example", b"Xqy"):
        found = {path.rpartition(".")[2] for path, text in texts if planted in text}
        assert found >= {"parquet", "transactions"}  # pages and statistics; Iceberg's bounds
    case = ["Ada Example"] * 6, [(("transactions", "canonical"), 0, None)]
    with pytest.raises(AssertionError):
        check_masked(*case)
