"""Log lines and the catalogue of metrics."""

from __future__ import annotations

import json
import logging
import re
import threading

import pytest

from stream.telemetry import CATALOGUE, METRICS, Instruments, find_metric, set_up_logging
from stream.telemetry.logs import CONTEXT_FIELDS, bind_log_context, log_context


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_metric_name_follows_the_convention(metric):
    assert re.fullmatch(r"headrace_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.labels[0] == "feed"
    assert "symbol" not in metric.labels
    assert metric.meaning
    assert metric.action


def test_metric_names_are_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_instruments_counted_value_is_rendered():
    live = Instruments()
    live.counter("headrace_records_total", feed="trades").inc(5)
    live.gauge("headrace_shard_behind_seconds", feed="trades", shard="0").set(7)
    text = live.render().decode()
    assert 'headrace_records_total{feed="trades"} 5.0' in text
    assert 'headrace_shard_behind_seconds{feed="trades",shard="0"} 7.0' in text


def test_histogram_has_the_buckets_of_the_catalogue():
    live = Instruments()
    live.histogram("headrace_commit_seconds", feed="trades").observe(0.3)
    text = live.render().decode()
    assert 'headrace_commit_seconds_bucket{feed="trades",le="0.25"} 0.0' in text
    assert 'headrace_commit_seconds_bucket{feed="trades",le="0.5"} 1.0' in text
    metric = find_metric("headrace_commit_seconds_bucket")
    assert metric is not None
    assert list(metric.buckets) == sorted(metric.buckets)


def test_series_of_a_shard_that_ended_is_forgotten():
    live = Instruments()
    for shard in ("0", "1"):
        live.gauge("headrace_shard_behind_seconds", feed="trades", shard=shard).set(1)
    live.keep_only("headrace_shard_behind_seconds", "shard", {"1"})
    text = live.render().decode()
    assert 'shard="0"' not in text
    assert 'shard="1"' in text


def test_registry_holds_the_catalogue_and_what_the_client_says_of_the_process():
    names = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in Instruments().registry.collect()
    }
    assert {metric.name for metric in CATALOGUE} <= names
    assert all(name.startswith("process_") for name in names - {m.name for m in CATALOGUE})


def test_json_line_names_what_it_is_about_by_thread(capsys):
    set_up_logging("INFO", "json", "run-1")
    log = logging.getLogger("stream")

    def other() -> None:
        bind_log_context(feed="quotes", shard="shard-9")
        log.info("elsewhere")

    with log_context(feed="trades", slice="a/1"):
        with log_context(slice="a/2", trace_id="ff", commit=None):
            log.info("inside")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        log.info("after")
    log.info("outside")
    lines = {}
    for text in capsys.readouterr().err.splitlines():
        line = json.loads(text)
        assert line["flow_run_id"] == "run-1"
        names = {*CONTEXT_FIELDS} & line.keys()
        lines[line["message"]] = {name: line[name] for name in names}
    assert lines == {
        "inside": {"feed": "trades", "slice": "a/2", "trace_id": "ff"},
        "elsewhere": {"feed": "quotes", "shard": "shard-9"},
        "after": {"feed": "trades", "slice": "a/1"},
        "outside": {},
    }


def test_instruments_wrong_kind_or_name_is_refused():
    live = Instruments()
    with pytest.raises(KeyError, match="no counter"):
        live.counter("headrace_shard_behind_seconds", feed="trades", shard="0")
    with pytest.raises(KeyError):
        live.counter("headrace_nothing_total", feed="trades")


def test_json_log_line_is_one_object_with_the_error(capsys):
    set_up_logging("INFO", "json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("stream.test").exception("it %s", "broke")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "stream.test", "it broke")
    assert line["time"].endswith("+00:00")
    assert "two\nlines" in line["error"]


def test_text_log_of_an_sdk_stays_quiet_at_debug(capsys):
    set_up_logging("DEBUG")
    logging.getLogger("botocore").debug("a request with its credentials")
    logging.getLogger("stream").debug("ours")
    written = capsys.readouterr().err
    assert "ours" in written
    assert "credentials" not in written
