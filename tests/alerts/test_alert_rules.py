"""Every alert against time series, by promtool: when it fires, what it says, and when it does not.

A case is a few series, sampled every 15 s from time 0 (so a timestamp that keeps up is `0+15x…`),
and what must fire at given seconds. The rules are the ones that are written to deploy/. Faults are
planted into every rule, too: a case must notice each.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stream.alerts.alert import Alert
from stream.alerts.prometheus import render_rules
from stream.alerts.rules import ALERTS

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool judges the rules: apt-get install prometheus (CI has it)",
)

BY_NAME = {alert.name: alert for alert in ALERTS}
TARGET = {"feed": "trades", "instance": "a:9100", "job": "dataflow"}
FEED = {"feed": "trades"}
DAY = 288
"""In samples of the cases that take one in five minutes."""


@dataclass(frozen=True)
class Fired:
    """An alert that fires: its summary, and its labels besides the priority."""

    says: str
    labels: dict[str, str]


def of(says: str, **labels: str) -> list[Fired]:
    """One series of the target fires."""
    return [Fired(says, {**TARGET, **labels})]


def feed(says: str) -> list[Fired]:
    """The sum over the feed's processes fires."""
    return [Fired(says, FEED)]


NO: list[Fired] = []
LOST = "trades: records were lost before they were read (retention)"


@dataclass(frozen=True)
class Case:
    """Series by name (with labels besides the target's), and what fires at which second."""

    alert: str
    story: str
    series: dict[str, str]
    fires: dict[int, list[Fired]]
    every: str = "15s"


def labelled(name: str) -> str:
    """`up` -> up{feed="trades",…}; what a name brings along wins."""
    metric, _, rest = name.partition("{")
    own = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    pairs = ",".join(f'{key}="{value}"' for key, value in {**TARGET, **own}.items())
    return f"{metric}{{{pairs}}}"


UP, EPOCH, START = "up", "headrace_epoch_end_timestamp_seconds", "headrace_start_timestamp_seconds"
READ = 'headrace_shard_read_timestamp_seconds{shard="0"}'
BEHIND = 'headrace_shard_behind_seconds{shard="0"}'
GOAL = {"headrace_freshness_target_seconds": "15x4000"}
USED = 'headrace_retention_used_ratio{shard="0"}'
GAPS = 'headrace_gaps_total{reason="retention"}'
SILVER = 'headrace_committed_arrival_timestamp_seconds{stage="silver"}'
BRONZE = 'headrace_committed_arrival_timestamp_seconds{stage="bronze"}'
MESSAGES, OPEN = "headrace_messages_total", "headrace_market_open"
LEAST = {"headrace_min_messages_per_minute": "1x400"}
MOST = {"headrace_max_messages_per_minute": "100x400"}
OLD = {START: "-7200x4000"}
EVENT, ROWS = "headrace_event_watermark_timestamp_seconds", "headrace_silver_rows_total"
DUPLICATES, CONFLICTS = "headrace_duplicates_total", "headrace_commit_conflicts_total"
FILES, SNAPSHOTS = "headrace_small_files", "headrace_snapshots"
MEMORY = "process_resident_memory_bytes"
COST = 'headrace_cost_usd_total{part="compute"}'


def rejected(reason: str) -> str:
    return f'headrace_rejected_total{{reason="{reason}"}}'


def buckets(metric: str, stage: str = "", **counts: int) -> dict[str, str]:
    """A histogram that grows by so many observations per sample, cumulative, by upper bound."""
    label = f'stage="{stage}",' if stage else ""
    bounds = {name.removeprefix("le_"): count for name, count in counts.items()}
    return {f'{metric}_bucket{{{label}le="{b}"}}': f"0+{n}x400" for b, n in bounds.items()}


LATENCY, COMMIT = "headrace_slice_latency_seconds", "headrace_commit_seconds"

PAGED = (
    Case("dataflow-away", "a minute after it stopped to answer", {UP: "1x3 0x40"},
         {105: NO, 120: of("trades: the dataflow at a:9100 does not answer")}),
    Case("dataflow-away", "not for a restart of 45 s", {UP: "1x3 0x2 1x40"}, {150: NO, 600: NO}),
    Case("dataflow-away", "resolves when it answers", {UP: "1x3 0x10 1x40"}, {225: NO, 600: NO}),
    Case("dataflow-away", "other jobs are not its business", {'up{job="observe"}': "0x40"},
         {600: NO}),
    Case("stalled", "epochs stopped to end at second 120", {EPOCH: "0+15x8 120x40", **OLD},
         {360: NO, 375: of("trades: no epoch has ended for 4m 15s")}),
    Case("stalled", "none has ended since the start", {START: "0x60"},
         {240: NO, 255: of("trades: no epoch has ended for 4m 15s")}),
    Case("stalled", "not while epochs end, with records or without", {EPOCH: "0+15x80", **OLD},
         {1200: NO}),
    Case("stalled", "not after a restart", {EPOCH: "0+15x8 _x8 255+15x40", START: "0x8 _x8 250x40"},
         {300: NO, 800: NO}),
    Case("shard-unread", "one of two shards is not read any more",
         {READ: "0+15x4 60x40", READ.replace('"0"', '"1"'): "0+15x60"},
         {240: NO, 255: of("trades 0: no answer for 3m 15s", shard="0")}),
    Case("shard-lagging", "more than eight targets behind for five minutes",
         {BEHIND: "0x20 121x60", **GOAL},
         {600: NO, 615: of("trades 0: 2m 1s behind and not catching up", shard="0")}),
    Case("shard-lagging", "not at eight targets", {BEHIND: "120x60", **GOAL}, {900: NO}),
    Case("shard-lagging", "not while it catches up", {BEHIND: "3600-4.5x60", **GOAL}, {900: NO}),
    Case("shard-lagging", "catching up too slowly is not catching up",
         {BEHIND: "3600-2.25x60", **GOAL},
         {285: NO, 300: of("trades 0: 59m 15s behind and not catching up", shard="0")}),
    Case("shard-lagging", "a closed market is at its tip", {BEHIND: "0x99", OPEN: "0x99", **GOAL},
         {1200: NO}),
    Case("shard-lagging", "a feed with more time may be further behind",
         {BEHIND: "400x60", "headrace_freshness_target_seconds": "60x60"}, {900: NO}),
    Case("data-loss-horizon", "more than half of the retention", {USED: "0.51x20"},
         {45: NO, 60: of("trades 0: 51% of the retention is used", shard="0")}),
    Case("data-loss-horizon", "not at the half", {USED: "0.5x20"}, {300: NO}),
    Case("stale-silver", "four targets old for five minutes", {SILVER: "0+15x8 120x60", **GOAL},
         {480: NO, 495: of("trades: what arrived in the last 6m 15s is not in Silver")}),
    Case("stale-silver", "not at four targets", {SILVER: "-60+15x99", **GOAL}, {1200: NO}),
    Case("stale-silver", "a steady delay beyond them", {SILVER: "-75+15x99", **GOAL},
         {1200: of("trades: what arrived in the last 1m 15s is not in Silver")}),
    Case("stale-silver", "not while it catches up", {SILVER: "-3600+30x60", **GOAL}, {900: NO}),
    Case("stale-silver", "catching up too slowly is not catching up",
         {SILVER: "-3600+16.5x60", **GOAL},
         {300: of("trades: what arrived in the last 59m 30s is not in Silver")}),
    Case("stale-silver", "Bronze alone is not what readers see", {BRONZE: "0x99", **GOAL},
         {1200: NO}),
    Case("stale-silver", "a closed market: empty reads at the tip advance it",
         {SILVER: "0+15x99", OPEN: "0x99", MESSAGES: "7x99", **GOAL}, {1200: NO}),
)  # fmt: skip

QUALITY = (
    Case("silent-market", "open, and nothing arrives", {MESSAGES: "7x99", OPEN: "1x99", **LEAST,
         **OLD}, {300: NO, 315: feed("trades: 0 messages in ten minutes of an open market")}),
    Case("silent-market", "less than the contract's least", {MESSAGES: "0+0.1875x99", OPEN: "1x99",
         **LEAST, **OLD}, {1200: feed("trades: 7.5 messages in ten minutes of an open market")}),
    Case("silent-market", "not for a little more than it", {MESSAGES: "0+0.375x99", OPEN: "1x99",
         **LEAST, **OLD}, {1200: NO}),
    Case("silent-market", "two processes share the feed", {
         MESSAGES: "0+0.1875x99", MESSAGES + '{instance="b:9100"}': "0+0.1875x99",
         OPEN: "1x99", OPEN + '{instance="b:9100"}': "1x99", **LEAST, **OLD}, {1200: NO}),
    Case("silent-market", "not while the market is closed",
         {MESSAGES: "7x99", OPEN: "0x99", **LEAST, **OLD}, {1200: NO}),
    Case("silent-market", "ten minutes after the opening, and five to be sure",
         {MESSAGES: "7x200", OPEN: "0x40 1x200", **LEAST, **OLD},
         {1500: NO, 1515: feed("trades: 0 messages in ten minutes of an open market")}),
    Case("silent-market", "ends with the session", {MESSAGES: "7x200", OPEN: "1x40 0x200", **LEAST,
         **OLD}, {600: feed("trades: 0 messages in ten minutes of an open market"), 615: NO}),
    Case("silent-market", "a process counts for ten minutes first",
         {MESSAGES: "_x40 0x200", OPEN: "_x40 1x200", START: "_x40 600x200", **LEAST},
         {1500: NO, 1515: feed("trades: 0 messages in ten minutes of an open market")}),
    Case("silent-market", "a restart is no silence", {MESSAGES: "900+0.5x40 0+0.5x99",
         OPEN: "1x199", START: "0x40 600x99", **LEAST}, {900: NO, 1500: NO}),
    Case("silent-market", "a feed without a least may be silent", {MESSAGES: "7x99", OPEN: "1x99",
         "headrace_min_messages_per_minute": "0x99", **OLD}, {1200: NO}),
    Case("late-silver", "6 % of the slices take longer", {**GOAL,
         **buckets(LATENCY, "silver", **{"le_15": 94, "le_20": 100, "le_+Inf": 100})},
         {600: NO, 615: feed("trades: 5 % of the slices take 15.83s or more to Silver")}),
    Case("late-silver", "not for 4 %", {**GOAL,
         **buckets(LATENCY, "silver", **{"le_15": 96, "le_20": 100, "le_+Inf": 100})}, {1800: NO}),
    Case("late-silver", "Bronze is no promise to readers", {**GOAL,
         **buckets(LATENCY, "bronze", **{"le_15": 1, "le_20": 100, "le_+Inf": 100})}, {1800: NO}),
    Case("rejects", "over 1 %, whatever the reasons", {MESSAGES: "0+99x300",
         rejected("bad_time"): "0x80 0+2x200", rejected("bad_value"): "0x80 0+2x200"},
         {1485: NO, 1500: feed("trades: 76 messages rejected in 15 minutes, over 1 %")}),
    Case("rejects", "not for 0.9 %", {MESSAGES: "0+100x99", rejected("bad_time"): "0+0.9x99"},
         {1200: NO}),
    Case("rejects", "a few of a quiet feed",
         {MESSAGES: "0+1x99", rejected("bad_time"): "0+0.25x99"},
         {1200: feed("trades: 15 messages rejected in 15 minutes, over 1 %")}),
    Case("rejects", "not for ten", {MESSAGES: "0+1x99", rejected("bad_time"): "0+0.15x99"},
         {1200: NO}),
    Case("rejects", "a restart counts from zero", {MESSAGES: "90000+100x40 0+100x99",
         rejected("bad_time"): "5000x40 0x99"}, {700: NO, 1200: NO}),
    Case("restarts", "four times in fifteen minutes", {START: "0x2 60x2 120x2 180x2 240x99"},
         {165: NO, 180: of("trades: the dataflow started anew 4 times in 15 minutes"), 1005: NO}),
)  # fmt: skip


def usd(*spans: tuple[float, int]) -> dict[str, str]:
    """A bill that grows by so many USD per sample, over so many samples, span after span."""
    parts, total = [], 0.0
    for rate, samples in spans:
        parts.append(f"{total + rate:.4f}+{rate}x{samples - 1}")
        total += rate * samples
    return {COST: " ".join(parts)}


USUAL, TWICE = 0.01, 0.0325  # USD in five minutes: 0.12 an hour, 0.39

LONG = (
    Case("gap", "for six hours after it was found", {GAPS: "0x160 1x160", START: "0x320"},
         {160 * 300: NO, 162 * 300: of(LOST, reason="retention"),
          231 * 300: of(LOST, reason="retention"), 234 * 300: NO}, "5m"),
    Case("gap", "found by a process at its start", {GAPS: "_x2 1x100", START: "_x2 600x100"},
         {900: of(LOST, reason="retention"), 18000: of(LOST, reason="retention"), 22200: NO}, "5m"),
    Case("gap", "a restart does not report the last one again",
         {GAPS: "1x100 0x30", START: "0x100 30000x30"}, {103 * 300: NO}, "5m"),
    Case("cost-high", "over twice the same hour of last week",
         usd((USUAL, 8 * DAY), (TWICE, 40)),
         {(8 * DAY + 4) * 300: NO, (8 * DAY + 20) * 300: feed(
             "trades: 0.39 USD in the last hour, over twice the usual")}, "5m"),
    Case("cost-high", "over twice yesterday's, in the first week",
         usd((USUAL, 2 * DAY), (TWICE, 40)),
         {(2 * DAY + 7) * 300: NO, (2 * DAY + 8) * 300: feed(
             "trades: 0.32 USD in the last hour, over twice the usual")}, "5m"),
    Case("cost-high", "not on a Monday that is as dear as the last",
         usd((TWICE, 2 * DAY), (USUAL, 5 * DAY), (TWICE, DAY)),
         {(7 * DAY + 40) * 300: NO}, "5m"),
    Case("cost-high", "not for less than twice",
         usd((USUAL, 2 * DAY), (0.018, 40)),
         {(2 * DAY + 30) * 300: NO}, "5m"),
    Case("cost-high", "seven cents are something",
         usd((0.002, 2 * DAY), (0.006, 40)),
         {(2 * DAY + 20) * 300: feed("trades: 0.07 USD in the last hour, over twice the usual")},
         "5m"),
    Case("cost-high", "four cents are nothing",
         usd((0.0005, 2 * DAY), (0.0035, 40)), {(2 * DAY + 20) * 300: NO},
         "5m"),
    Case("small-files", "no compaction for 36 hours", {FILES: "1000+1x600"},
         {443 * 300: NO, 444 * 300: of("trades: 1.444k small files, not compacted for 36 hours")},
         "5m"),
    Case("small-files", "not when they were compacted", {FILES: f"2000+1x{DAY} 1020+1x600"},
         {560 * 300: NO}, "5m"),
    Case("small-files", "not for few", {FILES: "1000x600"}, {560 * 300: NO}, "5m"),
    Case("small-files", "a few more are enough", {FILES: "1001x600"},
         {560 * 300: of("trades: 1.001k small files, not compacted for 36 hours")}, "5m"),
)  # fmt: skip

OTHERS = (
    Case("volume-flood", "above the bound for ten minutes", {MESSAGES: "0+30x99", **MOST},
         {1095: NO, 1110: feed("trades: 120 messages a minute, above the contract's bound")}),
    Case("volume-flood", "not below it", {MESSAGES: "0+24x99", **MOST}, {1200: NO}),
    Case("event-delay", "rows arrive whose events are old", {EVENT: "-315+15x99", ROWS: "0+9x99",
         **GOAL}, {600: NO, 615: of("trades: rows arrive, the newest event is 5m 15s old")}),
    Case("event-delay", "not within twenty targets", {EVENT: "-300+15x99", ROWS: "0+9x99", **GOAL},
         {1200: NO}),
    Case("event-delay", "a closed market has no newer event", {EVENT: "0x200", ROWS: "7x200",
         OPEN: "0x200", **GOAL}, {2400: NO}),
    Case("event-delay", "ends when rows end", {EVENT: "-400+15x200", ROWS: "0+9x60 540x140",
         **GOAL}, {900: of("trades: rows arrive, the newest event is 6m 40s old"), 1215: NO}),
    Case("duplicates-high", "a fifth of the messages", {DUPLICATES: "0+21x400", MESSAGES:
         "0+100x400"}, {900: NO, 4500: feed("trades: 5.04k duplicates in an hour, over 20 %")}),
    Case("duplicates-high", "not for less", {DUPLICATES: "0+19x400", MESSAGES: "0+100x400"},
         {4500: NO}),
    Case("duplicates-high", "not for a hundred", {DUPLICATES: "0+0.4x400", MESSAGES: "0+1x400"},
         {4500: NO}),
    Case("duplicates-high", "for some more", {DUPLICATES: "0+0.5x400", MESSAGES: "0+1x400"},
         {4500: feed("trades: 120 duplicates in an hour, over 20 %")}),
    Case("commit-conflicts", "all the time", {CONFLICTS: "0+0.25x200"},
         {900: NO, 2400: of("trades: 15 commits lost their race in 15 minutes")}),
    Case("commit-conflicts", "not for a few", {CONFLICTS: "0+0.15x200"}, {2400: NO}),
    Case("commit-slow", "6 % take more than half of the interval",
         buckets(COMMIT, **{"le_5": 94, "le_10": 100, "le_+Inf": 100}),
         {900: NO, 915: feed("trades: 5 % of the commits take 5.833s or more")}),
    Case("commit-slow", "not for 4 %",
         buckets(COMMIT, **{"le_5": 96, "le_10": 100, "le_+Inf": 100}), {2400: NO}),
    Case("snapshots-many", "for an hour", {SNAPSHOTS: "1501x400"},
         {3585: NO, 3600: of("trades: 1.501k snapshots are retained")}),
    Case("snapshots-many", "not when expiry runs hourly", {SNAPSHOTS: "1080x400"}, {5000: NO}),
    Case("snapshots-many", "not at the bound", {SNAPSHOTS: "1500x400"}, {5000: NO}),
    Case("memory-high", "nine tenths of a gigabyte", {MEMORY: "900000000x99"},
         {885: NO, 900: of("trades: the dataflow holds 858.3MiB of memory")}),
    Case("memory-high", "not for half of it", {MEMORY: "500000000x99"}, {1200: NO}),
    Case("memory-high", "not of another job", {MEMORY + '{job="observe"}': "9e9x99"}, {1200: NO}),
)  # fmt: skip

CASES = (*PAGED, *QUALITY, *OTHERS, *LONG)


def as_test(case: Case) -> dict[str, object]:
    """A case in promtool's format."""
    alert = BY_NAME[case.alert]
    words = {"description": alert.means, "runbook": alert.runbook}
    return {
        "name": f"{case.alert}: {case.story}",
        "interval": case.every,
        "input_series": [{"series": labelled(n), "values": v} for n, v in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{second}s",
                "alertname": case.alert,
                "exp_alerts": [
                    {
                        "exp_labels": {**fired.labels, "priority": alert.priority},
                        "exp_annotations": {**words, "summary": fired.says},
                    }
                    for fired in expected
                ],
            }
            for second, expected in case.fires.items()
        ],
    }


def write_test(folder: Path, rule: Alert, cases: Sequence[Case]) -> Path:
    """One rule and its cases, of one cadence, side by side; JSON is YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(render_rules([rule]))
    (every,) = {case.every for case in cases}
    tests = [as_test(case) for case in cases]
    path = folder / "test.yml"
    path.write_text(
        json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": tests})
    )
    return path


def cases_of(alert: Alert) -> list[Case]:
    return [case for case in CASES if case.alert == alert.name]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_rules_are_valid(tmp_path: Path):
    path = tmp_path / "rules.yml"
    path.write_text(render_rules())
    answer = promtool("check", "rules", "--lint-fatal", path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{len(ALERTS)} rules found" in answer.stdout


LOOK_BACK = sorted({case.alert for case in LONG})


@pytest.mark.parametrize(
    "names",
    [sorted(BY_NAME.keys() - set(LOOK_BACK)), pytest.param(LOOK_BACK, marks=pytest.mark.slow)],
    ids=["minutes", "days"],
)
def test_alerts_fire_when_they_should_and_only_then(names: list[str], tmp_path: Path):
    alerts = [BY_NAME[name] for name in names]
    files = [write_test(tmp_path / alert.name, alert, cases_of(alert)) for alert in alerts]
    answer = promtool("test", "rules", *files)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    for alert in ALERTS:
        outcomes = [bool(fired) for case in cases_of(alert) for fired in case.fires.values()]
        assert {True, False} <= set(outcomes), alert.name


def mutants(alert: Alert) -> Iterator[tuple[str, Alert]]:
    """The alert with one fault each: a comparison, a number, a clause, a selector, the patience."""
    text = alert.expression

    def changed(found: re.Match[str], fault: str) -> Alert:
        return replace(alert, expression=text[: found.start()] + fault + text[found.end() :])

    for found in re.finditer(r" (<|>|==) ", text):
        yield (
            f"inverted {found[1]}",
            changed(found, {"<": " > ", ">": " < ", "==": " != "}[found[1]]),
        )
    for found in re.finditer(r"(?<![\w.\[])\d+(\.\d+)?(?![\w.])", text):
        for factor in (0.5, 2) if float(found[0]) else ():
            yield f"{found[0]} times {factor}", changed(found, f"{float(found[0]) * factor:g}")
    for found in re.finditer(r"\n  (and|or|unless) [^\n]*", text):
        yield f"without {found[0].strip()}", changed(found, "")
    for found in re.finditer(r"\{\w+=\"\w+\"\}", text):
        yield f"without {found[0]}", changed(found, "")
    if alert.for_seconds:
        yield "no patience", replace(alert, for_seconds=0)
        yield "twice the patience", replace(alert, for_seconds=2 * alert.for_seconds)


SAME = {("stale-silver", 'without {stage="silver"}')}
"""No faults: one of the two selectors decides what is left of a difference."""


@pytest.mark.slow  # 100 rules judged: 15 CPU-seconds; those that look back for a week take as long
@pytest.mark.timeout(600)
def test_planted_fault_is_noticed(tmp_path: Path):
    alerts = [alert for alert in ALERTS if alert.name not in {"cost-high", "small-files"}]
    planted = [
        (alert.name, what, write_test(tmp_path / f"{alert.name}-{number}", mutant, cases_of(alert)))
        for alert in alerts
        for number, (what, mutant) in enumerate(mutants(alert))
        if (alert.name, what) not in SAME
    ]
    rules = [path.with_name("rules.yml") for _, _, path in planted]
    assert promtool("check", "rules", *rules).returncode == 0, "a fault must still be a rule"
    answer = promtool("test", "rules", *(path for _, _, path in planted))
    assert answer.stdout.count("Unit Testing: ") == len(planted) > 90
    well = set(re.findall(r"Unit Testing:  (\S+)\n\s*SUCCESS", answer.stdout))
    assert not [(name, what) for name, what, path in planted if str(path) in well]
