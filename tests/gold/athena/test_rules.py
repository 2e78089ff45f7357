"""Each rule catches the fault that is planted for it, and lets the right way to say it pass."""

from __future__ import annotations

import pytest
import rules
from trino_types import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, VARCHAR, ZONED, decimal, timestamp

TABLES = {
    "s.t": {
        "name": VARCHAR, "day": DATE, "at": timestamp(6), "n": BIGINT, "m": INTEGER, "x": DOUBLE,
        "price": decimal(18, 8), "ok": BOOLEAN, "zoned": ZONED,
    },
    "s.u": {"name": VARCHAR, "day": DATE, "n": BIGINT},
}  # fmt: skip

PLANTED = {  # rule -> what it must refuse
    "syntax": [
        "select a b c from s.t", "select n::integer as i from s.t", "select n // 2 as h from s.t",
        "select name as end from s.t", "select * exclude (n) from s.t",
        "select n as i from s.t qualify row_number() over (order by n) = 1", "from s.t",
        "select name as table from s.t", "select list_value(1, 2)[1:2] as l from s.t",
    ],
    "analysis": [
        "select nothing as a from s.t", "select n as a from s.none", "select t.n from s.t as v",
        "select name = day as a from s.t", "select name > 1 as a from s.t",
        "select n as a from s.t where name = n", "select n as a from s.t where day = '2026-01-01'",
        "select n + 1 as a, a * 2 as b from s.t",
        "select n as a, count(*) as c from s.t group by a",
        "select n as a from s.t where a > 1", "select name || n as a from s.t",
        "select name as a from s.t union all select n as a from s.t",
        "select name as a, n as b from s.t union all select name as a from s.t",
        "select case when n > 1 then 'a' else 1 end as a from s.t", "select name + 1 as a from s.t",
        "select coalesce(name, 0) as a from s.t", "select sum(name) as a from s.t",
        "select length(n) as a from s.t", "select round(x, 2, 3) as a from s.t",
        "select n as a from s.t where n", "select n as a, x as a from s.t",
        "select t.n as a from s.t inner join s.u on t.name = u.n",
        "select n like 'a%' as a from s.t",
        "select n as a from s.t where n in (select name from s.u)",
        "select n as a from s.t where day between 'a' and 'b'",
        "select cast(price as decimal(38, 20)) * cast(price as decimal(38, 20)) as a from s.t",
        "select max_by(n, name, x, x) as a from s.t",
        "select u.n as a from s.t, s.u where t.n = v.n",
    ],
    "unknown-function": [
        "select arg_max(n, x) as a from s.t", "select string_split(name, ',') as a from s.t",
        "select list_sort(array[n]) as a from s.t", "select strftime(day, '%Y') as a from s.t",
        "select median(x) as a from s.t", "select epoch_us(at) as a from s.t",
        "select date_sub('day', day, day) as a from s.t", "select random() as a from s.t",
        "select greatest(n, m) as a from s.t", "select if(ok, 1, 2) as a from s.t",
        "select make_timestamp(n) as a from s.t",
        "select approx_percentile(x, 0.5e0) as a from s.t",
    ],
    "integer-division": ["select n / 2 as a from s.t", "select sum(n) / count(*) as a from s.t"],
    "decimal-division": ["select price / 2 as a from s.t", "select price / price as a from s.t"],
    "division": ["select x / x as a from s.t", "select n / x as a from s.t"],
    "date-diff": [
        "select date_diff('day', at, at) as a from s.t",
        "select date_diff('month', day, day) as a from s.t",
        "select date_diff('second', at, at) as a from s.t",
    ],
    "date-add": ["select date_add('day', 1, day) as a from s.t"],
    "at-time-zone": [
        "select at at time zone 'Europe/Berlin' as a from s.t",
        "select cast(zoned at time zone 'America/New_York' as timestamp(6)) as a from s.t",
    ],
    "try": ["select try(n + 1) as a from s.t"],
    "group-by-all": ["select n as a, count(*) as c from s.t group by all"],
    "array-agg": ["select array_agg(n) as a from s.t"],
    "mixed-case": ['select n as "Total" from s.t', "select n as Total from s.t"],
    "cast-length": ["select cast(name as varchar(3)) as a from s.t"],
    "cast-to-text": [
        "select cast(x as varchar) as a from s.t", "select cast(at as varchar) as a from s.t",
    ],
    "cast-to-integer": ["select cast(x as bigint) as a from s.t"],
    "cast-to-decimal": ["select cast(x * 2 as decimal(18, 8)) as a from s.t"],
    "clock": ["select current_date as a from s.t", "select current_timestamp as a from s.t"],
    "limit": ["select n as a from s.t limit 3"],
    "zoned": ["select zoned as a from s.t"],
    "precision": [
        "select cast(at as timestamp) as a from s.t",
        "select cast(day as timestamp(3)) as a from s.t",
    ],
    "untyped": ["select null as a, n as b from s.t"],
    "stored-type": ["select row(n, x) as a from s.t", "select split(name, ',') as a from s.t"],
}  # fmt: skip

RIGHT = [
    "select n % 2 as a, cast(n as double) / nullif(cast(m as double), 0) as b from s.t",
    "select x / 1e6 as a, -x as b, 2e4 * abs(x) as c, price * 2 as d from s.t",
    "select date_diff('day', day, day) as a, date_diff('millisecond', at, at) as b from s.t",
    "select cast(date_add('day', -1, day) as date) as a from s.t",
    "select cast(from_unixtime_nanos(n) at time zone 'UTC' as timestamp(6)) as a from s.t",
    "select max_by(n, row(day, name)) as a, min_by(name, n) filter (where ok) as b from s.t",
    "select cast(null as varchar) as a, cast(price as decimal(28, 8)) as b from s.t",
    "select cast(round(x, 8) as decimal(28, 8)) as a, cast(ceil(x) as bigint) as b from s.t",
    "select n as a from s.t union all select m as a from s.t",
    "select name as a from s.t where day in (date '2026-01-01') and name is distinct from 'b'",
    "with a as (select n, name from s.t) select a.*, u.day from a left join s.u as u on a.n = u.n",
    "select item as a from s.t cross join unnest(split(name, ',')) as items(item)",
    "select lag(n) over (partition by name order by day) as a, sum(price) over () as b from s.t",
    "select n as a, count(*) as b from s.t group by n having count(*) > 1 order by a, b limit 3",
    "select case name when 'a' then 1 else n end as a, coalesce(n, 0) as b from s.t",
    "select n as a from s.t where exists (select 1 from s.u where u.n = t.n)",
    "select lower(to_hex(md5(to_utf8(name)))) as a from s.t",
]

CASES = [(rule, sql) for rule, planted in PLANTED.items() for sql in planted]


def rules_of(faults: list[str]) -> set[str]:
    return {fault.partition(":")[0] for fault in faults}


@pytest.mark.parametrize(("rule", "sql"), CASES)
def test_planted_fault_is_caught_by_its_rule(rule: str, sql: str) -> None:
    assert rule in rules_of(rules.judge(sql, TABLES, is_model=True)[0])


@pytest.mark.parametrize("sql", RIGHT)
def test_what_both_dialects_understand_passes(sql: str) -> None:
    assert rules.judge(sql, TABLES, is_model=True)[0] == []


@pytest.mark.parametrize(
    "text",
    [
        "select regexp_replace(a, 'b', 'c') from t", "select md5(a) from t",
        "select a at time zone 'UTC' from t", "from t cross join unnest(x) as u(y)",
        "select lag(a) ignore nulls over () from t", "select date_add('day', 1, a) from t",
    ],
)  # fmt: skip
def test_what_a_macro_hides_is_not_written_in_a_model(text: str) -> None:
    assert rules_of(rules.judge_source(text)) == {"macro-only"}
    assert rules.judge_source("{# " + text + " #} select 1 {{ macro('" + "md5(x)" + "') }}") == []


@pytest.mark.parametrize(
    ("rule", "sql"),
    [
        ("hive-table", "create table s.a with (is_external=false) as select n from s.t"),
        ("is-external", "create table s.a with (table_type='iceberg') as select n from s.t"),
        ("partitioning", "create table s.a with (table_type='iceberg', is_external=false, "
                         "partitioning=array['day']) as select n from s.t"),
        ("precision", "create or replace view s.v as select cast(day as timestamp) as a from s.t"),
        ("insert", "insert into s.u (name, day, n) select name, day, price from s.t"),
        ("insert", "insert into s.u (name, day) select name, day, n from s.t"),
        ("insert", "insert into s.u (name, n, day) select name, day, n from s.t"),
        ("analysis", "insert into s.none (name) select name from s.t"),
        ("analysis", "delete from s.u where day = '2026-01-01'"),
        ("analysis", "delete from s.u where nothing = 1"),
        ("analysis", "prepare p from select name from s.t where name <= ?"),
        ("syntax", "delete from s.u where"),
        ("syntax", "insert overwrite s.u select name, day, n from s.t"),
        ("reserved", "create external table `s`.`t` (date string) location 's3://b'"),
    ],
)  # fmt: skip
def test_planted_fault_in_a_statement_is_caught(rule: str, sql: str) -> None:
    assert rule in rules_of(rules.judge_statement(sql, TABLES)[0])


@pytest.mark.parametrize(
    "sql",
    [
        "create table s.a with (table_type='iceberg', is_external=false, location='s3://b/a', "
        "partitioning=array['day'], format='parquet') as select n, day from s.t",
        "create or replace view gold.u as select * from s.u",
        "insert into s.u (name, n, day) (select name, n, day from s.t)",
        "delete from s.u where day in (date '2026-01-01', date '2026-01-02')",
        "delete from s.u where (name = 'trades' and n >= 3)or (name = 'news' and n >= 1)",
        "prepare p from select name from s.t where n <= ?",
        "create external table `s`.`t` (`date` string) row format serde 'x' location 's3://b'",
    ],
)  # fmt: skip
def test_statements_as_they_should_be_pass(sql: str) -> None:
    assert rules.judge_statement(sql, TABLES)[0] == []
