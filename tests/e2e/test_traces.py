"""Traces of a real run arrive at a real OTLP/HTTP receiver: a span per slice and per commit."""

from __future__ import annotations

import builtins
import gzip
import importlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.errors import ConfigError
from stream.observe import observe
from stream.producers.simulate import Simulator
from stream.sources.memory import MemoryStream
from stream.telemetry import set_up_logging
from stream.telemetry.logs import current_context


class Receiver:
    """What an OTLP collector is to us: takes protobuf over HTTP, and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.asked: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.asked.append(self.path)
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: Any) -> None:
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def attributes(holder: Any) -> dict[str, Any]:
    return {item.key: item.value.string_value or item.value.int_value for item in holder.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def fill(stream: MemoryStream, messages: int) -> None:
    source = Simulator("trades", seed=1, start_ns=time.time_ns() - 10**10, rate=5_000)
    for key, line in source.take(messages):
        stream.put(line, key)


def test_each_slice_and_each_commit_is_a_span_and_the_commit_links_its_slices(
    bed: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "run-42")
    stream = MemoryStream("headrace-trades", 2)
    fill(stream, 2_000)
    began = time.time_ns()
    seen = observe(bed.settings(otlp_endpoint=receiver.endpoint), "trades")
    running = bed.run(stream, observer=seen)
    running.wait_for(2_000)
    tally = running.end()
    assert seen is not None
    seen.close()
    ended = time.time_ns()

    assert set(receiver.asked) == {"/v1/traces"}
    slices, commits = receiver.named("headrace.slice"), receiver.named("headrace.commit")
    assert len(slices) + len(commits) == len(receiver.spans)
    recorded = bed.query("SELECT slice_id, records FROM ledger_slices")
    found = {attributes(span)["headrace.slice"]: span for span in slices}
    assert {row["slice_id"] for row in recorded} <= set(found)
    for row in recorded:
        assert attributes(found[row["slice_id"]])["headrace.records"] == row["records"]
    assert len(commits) == tally.commits
    assert sum(attributes(span)["headrace.slices"] for span in commits) == tally.slices
    linked = [link.span_id for span in commits for link in span.links]
    assert sorted(linked) == sorted(found[row["slice_id"]].span_id for row in recorded)
    assert len({span.trace_id for span in receiver.spans}) == len(receiver.spans)
    for span in receiver.spans:
        assert began <= span.start_time_unix_nano <= span.end_time_unix_nano <= ended
    for resource in receiver.resources:
        assert resource["headrace.flow_run_id"] == "run-42"
        assert (resource["service.name"], resource["headrace.feed"]) == ("headrace", "trades")


def test_log_lines_of_a_slice_carry_its_names_and_its_trace(
    bed: Any,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = MemoryStream("headrace-trades", 1)
    fill(stream, 500)
    road = importlib.import_module("stream.flow")
    monkeypatch.setattr(road, "decode_records", telling(road.decode_records, "decoding"))
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up_logging("INFO", "json", "run-42")
        seen = observe(bed.settings(otlp_endpoint=receiver.endpoint), "trades")
        running = bed.run(stream, observer=seen)
        running.wait_for(500)
        running.end()
        assert seen is not None
        seen.close()
    finally:
        root.handlers[:], root.level = before
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    spans = {attributes(span)["headrace.slice"]: span for span in receiver.named("headrace.slice")}

    decoding = [line for line in lines if line["message"] == "decoding"]
    assert len(decoding) == len(spans)
    for line in decoding:
        assert (line["feed"], line["shard"]) == ("trades", "shardId-000000000000")
        assert line["trace_id"] == spans[line["slice"]].trace_id.hex()
        assert line["flow_run_id"] == "run-42"
    opened = next(line for line in lines if "opened in lane" in line["message"])
    assert opened["feed"] == "trades"
    assert "slice" not in opened
    assert "slice" not in current_context()


def telling(work: Any, message: str) -> Any:
    def tell(*arguments: Any) -> Any:
        logging.getLogger("stream").info(message)
        return work(*arguments)

    return tell


def test_collector_that_is_away_costs_one_warning_and_no_record(
    bed: Any, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = receiver.endpoint
    receiver.close()
    stream = MemoryStream("headrace-trades", 1)
    fill(stream, 500)
    seen = observe(bed.settings(otlp_endpoint=endpoint), "trades")
    assert seen is not None
    running = bed.run(stream, observer=seen)
    running.wait_for(500)
    running.end()
    began = time.monotonic()
    seen.close()

    assert time.monotonic() - began < 8
    assert bed.check_equal().totals.messages == 500
    said = [r for r in caplog.records if r.levelno >= logging.WARNING and "traces" in r.message]
    assert [record.levelname for record in said] == ["WARNING"]
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_traces_without_the_extra_are_refused_with_what_to_install(
    bed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"OTLP_ENDPOINT.*headrace\[otlp\]"):
        observe(bed.settings(otlp_endpoint="http://127.0.0.1:1"), "trades")


def test_traces_are_off_by_default_and_then_nothing_of_them_is_imported(
    bed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    ordinary = builtins.__import__

    def note(name: str, *rest: Any, **more: Any) -> Any:
        imported.append(name)
        return ordinary(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", note)
    seen = observe(bed.settings(metrics_export="emf"), "trades", write=lambda _: None)
    assert seen is not None
    seen.close()
    assert seen.traces is None
    assert not [name for name in imported if name.startswith("opentelemetry")]
