"""Log lines and the catalogue of metrics."""

from __future__ import annotations

import json
import logging
import re

import pytest

from stream.telemetry import METRICS, Instruments, set_up_logging


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
