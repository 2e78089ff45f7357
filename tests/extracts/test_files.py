"""A user's files land as they are, in parts that replay to the same messages as the whole."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.extracts import ExtractRequest, Part
from batch.extracts import files as files_module
from batch.extracts.files import FilesExtractor
from batch.extracts.landing import land_extract
from batch.extracts.mapping import parse_mapping
from stream.clock import ManualClock
from stream.errors import ConfigError, FatalError
from stream.lake.store import create_bucket, open_store
from stream.sources.extract import PartRef, find_manifest, read_part
from stream.sources.extract_formats import items_of, payloads_of

TRADE = (
    b'{"venue":"sim","symbol":"A","trade_id":"%d","ts_event_ns":1764000000000000000,'
    b'"price":1.10,"size":2}'
)
LINES = [TRADE % i for i in range(1_000)]
MAPPING = parse_mapping(
    {
        "feed": "trades",
        "columns": {"symbol": "Ticker", "trade_id": "Id", "price": "Px", "size": "Qty"},
        "constants": {"venue": "sim"},
        "times": {"ts_event_ns": {"column": "T", "unit": "ns"}},
    }
)
CSV = b"Ticker,Id,Px,Qty,T,Note\n" + b"".join(
    b'A,%d,1.10,2,1764000000000000000,"two\nlines, %d"\n' % (i, i) for i in range(1_000)
)


def extract(where: Path | str, **options: Any) -> list[Part]:
    first, last = options.pop("first", None), options.pop("last", None)
    choice = options.pop("options", {})
    extractor = FilesExtractor(where, **({"feed": "trades"} | options))
    return list(extractor.extract(ExtractRequest("trades", first, last, options=choice)))


def messages(parts: list[Part], mapping: Any = MAPPING) -> list[bytes]:
    found: list[bytes] = []
    for part in parts:
        reference = PartRef("p", part.suffix, part.rows, len(part.data), "", part.request)
        found += payloads_of(part.data, reference, mapping).to_pylist()
    return found


def test_folder_of_every_format_lands_in_name_order_with_its_own_bytes(tmp_path):
    folder = tmp_path / "dump"
    (folder / "b").mkdir(parents=True)
    table = {"Ticker": ["A"], "Id": [7], "Px": [1.5], "Qty": [2], "T": [1764000000000000000]}
    pq.write_table(pa.table(table), folder / "d.parquet")
    contents = {
        "a.jsonl": b"\n".join(LINES),
        "b/x.json": b"[" + b",".join(LINES[:3]) + b"]",
        "c.csv": CSV,
        "d.parquet": (folder / "d.parquet").read_bytes(),
        "e.csv.gz": gzip.compress(CSV, mtime=0),
        "f.ndjson.gz": gzip.compress(b"\n".join(LINES), mtime=0),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    store = open_store(f"file://{tmp_path}/lake")
    extractor = FilesExtractor(folder, mapping=MAPPING, source="acme")
    land_extract(store, extractor, ExtractRequest("trades"), "run-1", clock=ManualClock(10**18))

    manifest = find_manifest(store, "run-1")
    assert [part.request["file"] for part in manifest.parts] == sorted(contents)
    assert [read_part(store, part) for part in manifest.parts] == list(contents.values())
    assert [part.rows for part in manifest.parts] == [1_000, 3, 1_000, 1, 1_000, 1_000]
    assert (manifest.source, manifest.feed) == ("acme", "trades")
    for part in manifest.parts:
        payloads = payloads_of(read_part(store, part), part, manifest.mapping)
        assert len(payloads) == part.rows


@pytest.mark.parametrize("size", [1, 100, 5_000, 1 << 20])
def test_lines_are_cut_into_parts_that_joined_are_the_file(tmp_path, size):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(LINES))
    parts = extract(path, part_bytes=size)
    assert b"".join(part.data for part in parts) == path.read_bytes()
    assert messages(parts) == LINES
    assert all(len(part.data) <= max(size, 120) for part in parts)


@pytest.mark.parametrize("size", [1, 100, 5_000, 1 << 20])
def test_csv_is_cut_into_parts_that_read_like_the_whole(tmp_path, size):
    path = tmp_path / "a.csv"
    path.write_bytes(CSV)
    parts = extract(path, part_bytes=size, mapping=MAPPING)
    assert b"".join(part.data for part in parts) == CSV
    assert messages(parts) == items_of("whole", CSV, "csv", MAPPING).to_pylist()
    assert sum(part.rows for part in parts) == 1_000
    if len(parts) > 1:
        assert parts[1].request["csv_header"] == "Ticker,Id,Px,Qty,T,Note"
        assert parts[1].request["bytes"].startswith(f"{len(parts[0].data)}-")


def test_csv_named_like_the_feeds_fields_needs_no_mapping(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b"venue,symbol,trade_id,ts_event_ns,price,size,unknown\nsim,A,7,1764000000000000000,1.10,2,\n"
    )
    extractor = FilesExtractor(tmp_path, feed="trades")
    (part,) = extractor.extract(ExtractRequest("trades"))
    (message,) = messages([part], extractor.mapping_of("trades"))
    assert b'"price":1.10,"size":2,"symbol":"A","trade_id":"7"' in message


def test_cutting_keeps_memory_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "_READ_BYTES", 4_096)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(LINES * 20))
    largest = max(len(part.data) for part in extract(path, part_bytes=10_000))
    assert largest <= 10_000


def test_line_above_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "MAX_WHOLE_BYTES", 1 << 21)
    (tmp_path / "a.jsonl").write_bytes(b"x" * (1 << 22))
    with pytest.raises(ConfigError, match=r"a\.jsonl: a line of more than 2,097,152 bytes"):
        extract(tmp_path, part_bytes=1 << 10)


def test_file_that_cannot_be_cut_is_refused_above_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "MAX_WHOLE_BYTES", 1 << 10)
    (tmp_path / "a.json").write_bytes(b"[" + b" " * 2_000 + b"]")
    with pytest.raises(ConfigError, match=r"2,002 bytes of json cannot be cut.*smaller files"):
        extract(tmp_path, part_bytes=100)


def test_files_are_chosen_by_the_days_in_their_names(tmp_path):
    names = [
        "2026-01-04.jsonl",
        "acme_20260105.jsonl",
        "from-2026-01-01-to-2026-01-31.jsonl",
        "undated.jsonl",
        "year=2026/month=01/day=05/x.jsonl",
        "year=2026/month=1/day=6/x.jsonl",
        "2026-13-45.jsonl",
        "part-12345678901.jsonl",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(LINES[0])
    chosen = extract(tmp_path, first=date(2026, 1, 5), last=date(2026, 1, 5))
    assert {part.request["file"] for part in chosen} == {*names[1:5], *names[6:]}
    assert len(extract(tmp_path)) == len(names)
    later = extract(tmp_path, first=date(2030, 1, 1), options={"pattern": "2026-01-04*"})
    assert later == []


def test_link_that_leads_out_is_refused_and_one_inside_is_passed_over(tmp_path):
    folder = tmp_path / "dump"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jsonl").write_bytes(LINES[0])
    (folder / "latest.jsonl").symlink_to(folder / "sub" / "a.jsonl")
    (folder / "again").symlink_to(folder / "sub")
    assert [part.request["file"] for part in extract(folder)] == ["sub/a.jsonl"]
    (tmp_path / "secret.jsonl").write_bytes(b"secret")
    (folder / "out.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(ConfigError, match=r"out\.jsonl: a link that leads out of the folder"):
        extract(folder)
    (folder / "out.jsonl").unlink()
    (folder / "outside").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"outside: a link that leads out"):
        extract(folder)


def test_file_of_an_unknown_kind_is_said_unless_the_pattern_leaves_it_out(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES[0])
    (tmp_path / "README.md").write_bytes(b"# dump")
    (tmp_path / ".hidden").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"README\.md: no known ending .*option pattern"):
        extract(tmp_path)
    assert len(extract(tmp_path, options={"pattern": "*.jsonl"})) == 1


def test_format_says_what_files_are_whatever_their_names_say(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\n".join(LINES[:2]))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(LINES[2]))
    parts = extract(tmp_path, options={"format": "jsonl"})
    assert [part.suffix for part in parts] == ["jsonl", "jsonl.gz"]
    assert messages(parts) == LINES[:3]
    with pytest.raises(FatalError, match=r"a\.json: expected one JSON list or object"):
        extract(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"options": {"patern": "x"}}, "no option patern; options are pattern, format"),
        ({"options": {"format": "xml"}}, "format 'xml': expected one of json, jsonl"),
        ({"options": {"pattern": "*.csv"}}, "no file is named like '*.csv'"),
        ({"feed": "tradez"}, "no feed 'tradez'"),
        ({"feed": "quotes", "mapping": MAPPING}, "the mapping is of 'trades'"),
        ({"feed": None}, "say which feed"),
        ({"part_bytes": 0}, "part_bytes: expected 1 to"),
    ],
)
def test_wrong_use_is_refused(tmp_path, kwargs, said):
    (tmp_path / "a.jsonl").write_bytes(LINES[0])
    with pytest.raises(ConfigError) as error:
        extract(tmp_path, **kwargs)
    assert said in str(error.value)


@pytest.mark.parametrize("where", ["/no/such/folder", "ftp://host/x", "s3://"])
def test_place_that_does_not_exist_is_refused(where):
    with pytest.raises(ConfigError):
        extract(where)


def test_symbols_and_foreign_data_sets_are_refused(tmp_path):
    extractor = FilesExtractor(tmp_path, feed="trades")
    with pytest.raises(ConfigError, match="files are taken whole"):
        list(extractor.extract(ExtractRequest("trades", symbols=("A",))))
    with pytest.raises(ConfigError, match="no data set 'quotes'; there is 'trades'"):
        extractor.feed_of("quotes")


def test_damaged_file_lands_nothing_that_counts(tmp_path):
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(LINES[0])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(LINES[0] * 50)[:-9])
    store = open_store(f"file://{tmp_path}/lake")
    with pytest.raises(FatalError, match=r"b\.jsonl\.gz: the gzip ends in the middle"):
        land_extract(
            store, FilesExtractor(folder, feed="trades"), ExtractRequest("trades"), "run-1"
        )
    with pytest.raises(ConfigError, match="no extract 'run-1'"):
        find_manifest(store, "run-1")


def test_file_that_grows_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(LINES))
    parts = FilesExtractor(path, feed="trades", part_bytes=1_000).extract(ExtractRequest("trades"))
    next(parts)
    with path.open("ab") as stream:
        stream.write(b"\n" + LINES[0])
    with pytest.raises(ConfigError, match="changed while it was read"):
        list(parts)


def test_name_with_odd_bytes_can_be_recorded(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    path.write_bytes(LINES[0])
    (part,) = extract(tmp_path)
    assert part.request["file"] == "\ufffd.jsonl"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An emulated S3."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = Path(sys.executable).with_name("roto-server")
    command = [str(server), "--ephemeral", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("the emulator did not start")


def test_object_prefix_is_read_like_a_folder(s3, monkeypatch):
    create_bucket("s3://vendor", region="us-east-1", endpoint=s3)
    store = open_store("s3://vendor/acme", endpoint=s3)
    store.put("2026/a.jsonl", b"\n".join(LINES))
    store.put("2026/b.jsonl", LINES[0])
    parts = extract("s3://vendor/acme", endpoint=s3, part_bytes=50_000)
    assert messages(parts) == [*LINES, LINES[0]]
    assert len(parts) > 2
    (part,) = extract("s3://vendor/acme/2026/b.jsonl", endpoint=s3)
    assert part.request == {"file": "b.jsonl"}
    with pytest.raises(ConfigError, match="no file is named"):
        extract("s3://vendor/acme/2025", endpoint=s3)
    monkeypatch.setattr("batch.extracts.folder.MAX_WHOLE_BYTES", 1_000)
    with pytest.raises(ConfigError, match=r"s3://vendor/acme/2026/a\.jsonl: .* in one piece"):
        extract("s3://vendor/acme", endpoint=s3)
