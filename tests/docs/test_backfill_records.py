"""Every committed backfill is a record that can be read, reviewed and planned."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from batch.backfill.record import (
    FOLDER,
    BackfillRecord,
    mark_record,
    read_record,
    read_records,
    write_record,
)
from stream.errors import ConfigError

ROOT = Path(__file__).parents[2]
RECORD = BackfillRecord(
    id="2026-11-25-late-news",
    feed="news",
    source="fmp",
    dataset="news",
    first_day=date(2026, 11, 17),
    last_day=date(2026, 11, 18),
    reason="The news source was down for two days.",
    owner="market-data",
    status="planned",
    requested_on=date(2026, 11, 25),
)


def test_committed_records_are_valid_and_named_like_their_ids() -> None:
    records = read_records(ROOT / FOLDER)
    assert [record.id for record in records] == [
        path.stem for path in sorted((ROOT / FOLDER).iterdir())
    ]
    assert [record.status for record in records].count("example") == 1


def test_committed_records_can_be_planned() -> None:
    for record in read_records(ROOT / FOLDER):
        days = [day for chunk in record.plan() for day in chunk.days]
        assert (days[0], days[-1]) == (record.first_day, record.last_day)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, version=3, chunk_days=7, symbols=("ON", "NO", "1e3", "Ünï")),
        replace(RECORD, options={"interval": "5min"}, reason="Long: " + "words, 'quoted' " * 20),
        replace(RECORD, source="acme", path="s3://dumps/acme"),
        replace(RECORD, status="done", finished_on=date(2026, 11, 26)),
    ],
)
def test_record_that_is_written_reads_back(tmp_path: Path, record: BackfillRecord) -> None:
    path = write_record(tmp_path / "backfills", record)
    assert path.name == "2026-11-25-late-news.yaml"
    assert read_record(path) == record
    assert path.read_text().startswith("# A backfill, as it was decided")


def test_record_depends_on_its_symbols_options_and_path() -> None:
    keys = {
        record.plan()[0].key
        for record in (
            RECORD,
            replace(RECORD, symbols=("AAPL",)),
            replace(RECORD, symbols=("AAPL",), options={"interval": "5min"}),
            replace(RECORD, path="s3://dumps/acme"),
        )
    }
    assert len(keys) == 4


def test_record_is_never_written_over(tmp_path: Path) -> None:
    path = write_record(tmp_path, RECORD)
    with pytest.raises(ConfigError, match="exists: choose other words"):
        write_record(tmp_path, replace(RECORD, owner="somebody-else"))
    assert read_record(path) == RECORD


def test_record_that_is_marked_keeps_what_people_wrote(tmp_path: Path) -> None:
    path = write_record(tmp_path, RECORD)
    path.write_text(path.read_text() + "# Agreed with the vendor on Tuesday.\n")
    done = mark_record(path, "done", date(2026, 11, 27))
    assert (done.status, done.finished_on) == ("done", date(2026, 11, 27))
    again = mark_record(path, "running", date(2026, 11, 28))
    assert again == replace(RECORD, status="running")
    assert "# Agreed with the vendor on Tuesday." in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_record_marked_with_what_is_no_status_stays_as_it_is(tmp_path: Path) -> None:
    path = write_record(tmp_path, RECORD)
    with pytest.raises(
        ConfigError, match=r"status: expected one of planned, running.*found 'finished'"
    ):
        mark_record(path, "finished", date(2026, 11, 27))
    assert read_record(path) == RECORD


BAD = """
id: my-backfill
feed: weather
source: fmp
dataset: 12
first_day: 2026-11-24 09:30:00
reason: because
owner: ""
status: [done]
requested_on: yesterday
parallel: 4
symbols: [AAPL, ON]
options: {days: 3}
"""


def test_record_with_every_field_wrong_names_them_all(tmp_path: Path) -> None:
    path = tmp_path / "my-backfill.yaml"
    path.write_text(BAD)
    with pytest.raises(ConfigError) as caught:
        read_record(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    names = [line.removeprefix(f"{path}: ").split(":")[0] for line in lines]
    assert names == [
        *("parallel", "feed", "dataset", "first_day", "last_day", "reason", "owner", "status"),
        *("requested_on", "symbols", "options"),
    ]
    assert "found datetime.datetime(2026, 11, 24, 9, 30)" in str(caught.value)
    assert "quote YES, NO and ON" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "2026-11-24-late-news"}, "expected the day of the request and a few words"),
        ({"id": "2026-11-25-Late_News"}, "a few words"),
        ({"feed": "weather"}, r"feed: expected one of .*trades, .*found 'weather'"),
        ({"first_day": date(2026, 11, 19)}, "the first day is after the last"),
        ({"last_day": date(2999, 1, 1)}, "is not over"),
        ({"chunk_days": 0}, "chunk_days 0: expected 1 to 366"),
        ({"source": "FMP"}, "source 'FMP'"),
        ({"reason": "because"}, "a sentence that a reviewer can judge"),
        ({"status": "done"}, "finished_on: expected with status done and abandoned, and only then"),
        ({"finished_on": date(2026, 11, 26)}, "only then"),
        ({"status": "done", "finished_on": date(2026, 11, 24)}, "before the request"),
    ],
)
def test_record_that_makes_no_sense_is_neither_written_nor_read(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_record(tmp_path, replace(RECORD, **change))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: [", "not YAML"),
        ("- a\n- b\n", "expected fields"),
        ("", "expected fields"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_record_that_is_no_record_says_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "2026-11-25-bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_record(path)


def test_records_of_a_folder_report_all_bad_files_together(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "2026-11-25-bad.yaml").write_text("id: [")
    copy = (tmp_path / "2026-11-25-late-news.yaml").read_text()
    (tmp_path / "2026-11-25-copied.yaml").write_text(copy)
    with pytest.raises(ConfigError) as caught:
        read_records(tmp_path)
    text = str(caught.value)
    assert "notes.txt: expected only records" in text
    assert "2026-11-25-bad.yaml: not YAML" in text
    assert "id '2026-11-25-late-news': expected the file's name, '2026-11-25-copied'" in text


def test_record_without_pyyaml_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(tmp_path, RECORD)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match=r"pip install headrace\[prefect\]"):
        read_record(path)
