"""The key of a lake: where it comes from, who may read it, and that there is only one."""

from __future__ import annotations

import gzip
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from pydantic import SecretStr

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.replay.from_extract import replay_extracts
from batch.replay.into_table import replay_into
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.clock import ManualClock
from stream.decode import decode_records
from stream.errors import ConfigError
from stream.feeds import load_feed
from stream.lake import secret
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import GapRecord
from stream.lake.ledger import Ledger
from stream.lake.pii_key import FILE, PROPERTY, PiiKey, check_key, pin_key, read_pii_key
from stream.masking import open_masker
from stream.query import run_query
from stream.redrive import redrive, redrive_feed
from stream.settings import Settings, child_environment, load_settings
from stream.slices import ShardRef

KEY = "the first key of the lake, 32 characters and more"
OTHER = "the second key of the lake, 32 characters and more"
T0_NS = 1_764_000_000_000_000_000
ALL = (0, 10**13)


def settings_of(home: Path, **options: Any) -> Settings:
    return load_settings(home=home, lake=f"file://{home}/lake", **options)


@pytest.fixture
def keyed(home: Path) -> Settings:
    """Settings with a key of their own."""
    return settings_of(home, pii_key=KEY)


def transaction(number: int, holder: str = "Ada Example") -> bytes:
    return orjson.dumps(
        {
            "transaction_id": f"t{number}",
            "portfolio": "growth",
            "kind": "deposit",
            "currency": "EUR",
            "quantity": 5,
            "account_holder": holder,
            "note": f"for {holder}",
            "ts_event_ns": T0_NS,
        }
    )


def position(holder: str = "Ada Example") -> bytes:
    return orjson.dumps(
        {
            "portfolio": "growth",
            "as_of": "2025-11-20",
            "currency": "EUR",
            "quantity": 5,
            "account_holder": holder,
        }
    )


class Canned:
    """An extractor of given messages."""

    source = "books"

    def __init__(self, messages: list[bytes]) -> None:
        self.messages = messages

    def feed_of(self, dataset: str) -> str:
        return dataset

    def mapping_of(self, dataset: str) -> dict[str, object]:
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        lines = b"\n".join(self.messages)
        yield Part(gzip.compress(lines, mtime=0), "jsonl.gz", len(self.messages))


def land(
    settings: Settings, messages: list[bytes], feed: str = "transactions", run_id: str = "run-1"
) -> Any:
    """Land messages as an extract."""
    lake, clock = connect_lake(settings), ManualClock(T0_NS + 10**9)
    request = ExtractRequest(feed, date(2025, 11, 20), date(2025, 11, 20))
    manifest = land_extract(lake.store, Canned(messages), request, run_id, clock=clock)
    return replay_extracts(settings, lake, load_feed(feed), [manifest], apply=True, clock=clock)


def replay(settings: Settings, *, apply: bool = True) -> Any:
    lake = connect_lake(settings)
    source = BronzeSource(lake.store)
    return replay_recorded(settings, lake, load_feed("transactions"), ALL, source, apply=apply)


def holders(settings: Settings, table: str = "transactions") -> list[str]:
    found = run_query(settings, f"SELECT account_holder FROM {table} ORDER BY ALL")
    return list(found["account_holder"].to_pylist())


def fingerprint(lake: Lake, table: str = "transactions") -> str | None:
    return lake.catalog.open(table).properties.get(PROPERTY)


# Where the key comes from


def test_key_of_the_settings_wins_and_spaces_around_it_do_not_count(home: Path) -> None:
    found = read_pii_key(settings_of(home, pii_key=f" {KEY}\n", pii_secret_id="unread"))
    assert found == PiiKey.of(KEY)
    assert not (home / FILE).exists()


@pytest.mark.parametrize("text", ["", "too-short", " " * 40 + "x" * 31])
def test_key_that_is_too_short_is_refused_and_not_shown(monkeypatch, text: str) -> None:
    monkeypatch.setenv("HEADRACE_PII_KEY", text)
    with pytest.raises(ConfigError, match=r"HEADRACE_PII_KEY.*at least 32 characters") as raised:
        load_settings()
    assert not text.strip() or text.strip() not in str(raised.value)


def test_secret_that_the_settings_name_is_the_key(home: Path, monkeypatch) -> None:
    asked = []

    def read(*arguments: str) -> Any:
        asked.append(arguments)
        return SecretStr(KEY)

    monkeypatch.setattr(secret, "read_secret", read)
    settings = settings_of(home, aws="account", pii_secret_id="headrace/pii", region="eu-north-1")
    assert read_pii_key(settings) == PiiKey.of(KEY)
    assert asked == [("headrace/pii", "eu-north-1", "pii_key")]


def test_secret_that_is_too_short_is_refused_and_not_shown(home: Path, monkeypatch) -> None:
    monkeypatch.setattr(secret, "read_secret", lambda *_: SecretStr("weak"))
    with pytest.raises(ConfigError, match="secret pii: expected at least 32 random") as raised:
        read_pii_key(settings_of(home, pii_secret_id="pii"))
    assert "weak" not in str(raised.value)


def test_account_without_a_key_is_refused_for_feeds_with_personal_data_alone(home: Path) -> None:
    settings = settings_of(home, aws="account")
    lake = connect_lake(settings)
    with pytest.raises(ConfigError, match=r"set HEADRACE_PII_SECRET_ID .*HEADRACE_PII_KEY"):
        open_masker(settings, lake, load_feed("news"))
    assert open_masker(settings, lake, load_feed("trades")) is None
    assert not (home / FILE).exists()
    with pytest.raises(ConfigError, match="HEADRACE_PII_KEY"):
        land(settings, [transaction(1)])
    assert lake.catalog.names() == []  # refused before anything was made


def test_local_key_is_random_and_only_its_owner_can_read_it(home: Path, settings: Settings) -> None:
    key = read_pii_key(settings)
    text = (home / FILE).read_text()
    assert len(bytes.fromhex(text)) == 32
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == [FILE]  # no half-written one beside it
    assert read_pii_key(settings) == key == PiiKey.of(text)
    assert read_pii_key(settings_of(home.with_name("another"))) != key


def test_local_key_mode_does_not_depend_on_the_umask(home: Path, settings: Settings) -> None:
    before = os.umask(0)
    try:
        read_pii_key(settings)
    finally:
        os.umask(before)
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600


def test_local_key_that_others_can_read_is_refused(home: Path, settings: Settings) -> None:
    read_pii_key(settings)
    (home / FILE).chmod(0o640)
    with pytest.raises(ConfigError, match=r"can be read by others .*chmod 600"):
        read_pii_key(settings)


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40])
def test_local_key_that_is_none_is_refused_and_never_replaced(
    home: Path, settings: Settings, content: bytes
) -> None:
    home.mkdir()
    (home / FILE).write_bytes(content)
    (home / FILE).chmod(0o600)
    with pytest.raises(ConfigError, match=FILE):
        read_pii_key(settings)
    assert (home / FILE).read_bytes() == content


def test_local_key_in_a_home_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ConfigError, match="Choose another HEADRACE_HOME"):
        read_pii_key(settings_of(tmp_path / "home"))


@pytest.mark.slow
def test_local_key_created_by_many_processes_at_once_is_one(home: Path) -> None:
    code = (
        "import sys; from stream.settings import load_settings;"
        "from stream.lake.pii_key import read_pii_key; s = load_settings();"
        "print('ready', flush=True); sys.stdin.readline(); print(read_pii_key(s).fingerprint)"
    )
    environment = child_environment(settings_of(home))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = {racer.communicate(timeout=60)[0] for racer in racers}
    assert answers == {f"{PiiKey.of((home / FILE).read_text()).fingerprint}\n"}
    assert [path.name for path in home.iterdir()] == [FILE]


# Not shown


def test_key_is_in_no_settings_text_and_in_no_log(keyed: Settings, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    land(keyed, [transaction(1)])
    raw = PiiKey.of(KEY).secret.get_secret_value()
    texts = f"{keyed!r} {keyed} {keyed.model_dump()} {caplog.text}"
    assert KEY not in texts
    assert raw.hex() not in texts
    assert child_environment(keyed, ("pii_key",))["HEADRACE_PII_KEY"] == KEY  # children mask alike


def test_key_is_in_no_file_of_the_lake_or_the_catalog(keyed: Settings, home: Path) -> None:
    land(keyed, [transaction(1)])
    raw = PiiKey.of(KEY).secret.get_secret_value()
    for path in (path for path in home.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert KEY.encode() not in data, path
        assert raw not in data, path
        assert raw.hex().encode() not in data, path


def test_fingerprint_says_which_key_it_is_for_ever() -> None:
    assert PiiKey.of(KEY).fingerprint == "c4c4e8783d0c1944"
    assert PiiKey.of(KEY).fingerprint != PiiKey.of(OTHER).fingerprint


# One key for a lake


def test_first_write_says_the_key_in_the_table_and_later_ones_cost_no_commit(
    keyed: Settings,
) -> None:
    land(keyed, [transaction(1)])
    lake = connect_lake(keyed)
    assert fingerprint(lake) == PiiKey.of(KEY).fingerprint
    table = lake.catalog.open("transactions")
    address = table.iceberg.metadata_location
    pin_key(table, PiiKey.of(KEY))
    pin_key(lake.catalog.open("transactions"), PiiKey.of(KEY))
    assert lake.catalog.open("transactions").iceberg.metadata_location == address


def test_other_key_is_refused_before_anything_is_written(keyed: Settings, home: Path) -> None:
    land(keyed, [transaction(1)])
    other = settings_of(home, pii_key=OTHER)
    before = {path: path.stat().st_mtime_ns for path in (home / "lake").rglob("*.parquet")}
    works = [
        lambda: land(other, [transaction(2)], run_id="run-2"),
        lambda: land(other, [position()], feed="positions", run_id="run-3"),  # another table
        lambda: replay(other),
        lambda: replay(other, apply=False),
        lambda: replay_into(
            other, connect_lake(other), load_feed("transactions"), ALL, "looked_at", apply=True
        ),
    ]
    for work in works:
        with pytest.raises(ConfigError) as raised:
            work()
        for part in (PiiKey.of(KEY).fingerprint, PiiKey.of(OTHER).fingerprint, "rotate-the-pii"):
            assert part in str(raised.value)
    assert {p: p.stat().st_mtime_ns for p in (home / "lake").rglob("*.parquet")} == before
    assert connect_lake(keyed).catalog.names() == ["transactions"]
    assert fingerprint(connect_lake(keyed)) == PiiKey.of(KEY).fingerprint


def test_table_of_an_older_release_is_pinned_and_masked_by_a_replay(
    keyed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:  # a release that did not mask
        for module in ("stream.masking", "batch.replay.from_extract"):
            old.setattr(f"{module}.pin_masker", lambda *_: None)
        old.setattr("stream.masking.Masker.mask_rows", lambda _, __, rows: rows)
        land(keyed, [transaction(n, f"Ada {n}") for n in range(3)])
    lake = connect_lake(keyed)
    assert fingerprint(lake) is None
    assert holders(keyed) == ["Ada 0", "Ada 1", "Ada 2"]

    dry = replay(keyed, apply=False)
    assert (dry.changed_slices, dry.rows_added, dry.rows_removed) == (1, 3, 3)
    assert "Ada" not in repr(dry.samples)  # what people see of a comparison is masked, too
    assert fingerprint(lake) is None

    assert replay(keyed).changed_slices == 1
    assert fingerprint(lake) == PiiKey.of(KEY).fingerprint
    masker = open_masker(keyed, lake, load_feed("transactions"))
    assert masker is not None
    assert holders(keyed) == sorted(masker.hash_text(f"Ada {n}") for n in range(3))
    assert replay(keyed).changed_slices == 0


def test_rotation_replaces_the_named_key_alone(keyed: Settings, home: Path) -> None:
    land(keyed, [transaction(1)])
    old = holders(keyed)
    stranger = settings_of(home, pii_key=OTHER, pii_key_replaces="0123456789abcdef")
    with pytest.raises(ConfigError, match="would not join"):
        replay(stranger)
    rotating = settings_of(home, pii_key=OTHER, pii_key_replaces=PiiKey.of(KEY).fingerprint)
    assert replay(rotating, apply=False).changed_slices == 1
    assert fingerprint(connect_lake(keyed)) == PiiKey.of(KEY).fingerprint  # a dry run says nothing

    assert replay(rotating).changed_slices == 1
    assert fingerprint(connect_lake(keyed)) == PiiKey.of(OTHER).fingerprint
    masker = open_masker(rotating, connect_lake(rotating), load_feed("transactions"))
    assert masker is not None
    assert holders(keyed) == [masker.hash_text("Ada Example")] != old
    assert replay(settings_of(home, pii_key=OTHER)).changed_slices == 0
    with pytest.raises(ConfigError, match="would not join"):  # the old key is a stranger now
        replay(keyed)


def test_rotation_accepts_tables_that_are_still_to_come(keyed: Settings, home: Path) -> None:
    land(keyed, [transaction(1)])
    land(keyed, [position()], feed="positions", run_id="run-2")
    rotating = settings_of(home, pii_key=OTHER, pii_key_replaces=PiiKey.of(KEY).fingerprint)
    replay(rotating)
    check_key(connect_lake(rotating), PiiKey.of(OTHER, PiiKey.of(KEY).fingerprint))
    with pytest.raises(ConfigError, match="table positions is masked with the key"):
        check_key(connect_lake(rotating), PiiKey.of(OTHER))


def test_side_table_is_masked_and_says_its_key(keyed: Settings) -> None:
    land(keyed, [transaction(1)])
    lake = connect_lake(keyed)
    replay_into(keyed, lake, load_feed("transactions"), ALL, "looked_at", apply=True)
    assert holders(keyed, "looked_at") == holders(keyed) != ["Ada Example"]
    assert fingerprint(lake, "looked_at") == PiiKey.of(KEY).fingerprint


def test_redriven_rows_are_masked_and_under_another_key_refused(
    keyed: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = transaction(2, "Bo Example").replace(b"deposit", b"donation")
    land(keyed, [transaction(1), bad])

    def fixed_decoder(contract: Any, records: pa.RecordBatch) -> Any:
        payloads = [p.replace(b"donation", b"deposit") for p in records["payload"].to_pylist()]
        columns = [pa.array(payloads, pa.binary()), *records.columns[1:]]
        return decode_records(contract, pa.record_batch(columns, schema=records.schema))

    monkeypatch.setattr("stream.redrive.decode_records", fixed_decoder)
    with pytest.raises(ConfigError, match="would not join"):
        redrive_feed(settings_of(home, pii_key=OTHER), "transactions", apply=True)
    quarantined = run_query(keyed, "SELECT raw FROM quarantine")["raw"].to_pylist()
    assert quarantined == [bad]  # as it came: it holds personal data, like Bronze

    assert redrive_feed(keyed, "transactions", apply=True).silver_rows == 1
    masker = open_masker(keyed, connect_lake(keyed), load_feed("transactions"))
    assert masker is not None
    assert set(holders(keyed)) == {masker.hash_text(f"{name} Example") for name in ("Ada", "Bo")}
    with pytest.raises(ConfigError, match="transactions has personal data"):
        redrive(connect_lake(keyed), load_feed("transactions"), dry_run=False)


def test_writer_that_began_with_the_old_key_cannot_commit(keyed: Settings, home: Path) -> None:
    """Also when nothing but the property changed: its state is not stale for the catalog."""
    land(keyed, [transaction(1)])
    lake = connect_lake(keyed)
    table = lake.catalog.open("transactions")
    pin_key(table, PiiKey.of(KEY))
    ledger = Ledger("transactions", table, lake.store)
    ledger.head()
    commits = len(ledger.entries())

    new = connect_lake(keyed).catalog.open("transactions")
    pin_key(new, PiiKey.of(OTHER, PiiKey.of(KEY).fingerprint))

    with pytest.raises(ConfigError, match=r"their rows would not join\. Nothing was committed"):
        ledger.commit_slices([], gaps=[_gap()])
    assert len(Ledger("transactions", new, lake.store).entries()) == commits


def test_two_first_writers_with_different_keys_do_not_both_succeed(
    keyed: Settings, home: Path
) -> None:
    lake, contract = connect_lake(keyed), load_feed("transactions")
    one, other = lake.table(contract), lake.table(contract)  # both see a table without a key
    pin_key(one, PiiKey.of(KEY))
    with pytest.raises(ConfigError, match="would not join"):
        pin_key(other, PiiKey.of(OTHER))
    assert fingerprint(lake) == PiiKey.of(KEY).fingerprint


def _gap() -> Any:
    return GapRecord(ShardRef("transactions", "s", "0"), None, None, "for a commit")
