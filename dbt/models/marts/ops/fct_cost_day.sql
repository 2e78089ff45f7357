{#- One row per feed and UTC day of commit: what its records cost at list prices (seed aws_prices).
    Kinesis: PUT payload units of 25 KB (25,600 bytes), per slice the larger of its records and its
    bytes / 25,600: exact while no record is larger. S3: every object a slice wrote, and per commit a
    ledger entry and three objects of Iceberg metadata; stored bytes for one month. Not in it: shard
    hours, compute, queries. Extracts do not pass through Kinesis; a replay reads Bronze. -#}
with written as (
    select
        events.feed,
        cast(events.committed_at as date) as commit_day,
        sum(case when events.event = 'slice' and commits.kind <> 'replay' then events.records end)
            as records,
        sum(case when events.event = 'slice' and commits.kind <> 'replay' then events.payload_bytes end)
            as payload_bytes,
        sum(
            case
                when events.event <> 'slice' or commits.kind = 'replay' then 0
                when events.shard like 'extract-%' then 0
                when events.records > ceil(events.payload_bytes / 25600e0) then events.records
                else ceil(events.payload_bytes / 25600e0)
            end
        ) as put_payload_units,
        sum(
            case
                when events.event = 'slice' and commits.kind <> 'replay'
                    and not events.shard like 'extract-%'
                then events.payload_bytes
            end
        ) as kinesis_bytes,
        sum(events.objects) as objects,
        sum(events.stored_bytes) as stored_bytes
    from {{ ref('int_ledger_events') }} as events
    inner join {{ ref('int_ledger_commits') }} as commits
        on events.feed = commits.feed and events.commit = commits.commit
    group by events.feed, cast(events.committed_at as date)
),

committed as (
    select feed, cast(committed_at as date) as commit_day, count(*) as commits
    from {{ ref('int_ledger_commits') }}
    where kind <> 'start'
    group by feed, cast(committed_at as date)
),

prices as (
    select
        max(case when item = 'kinesis_put_payload_units' then usd end) / 1e6 as put_payload_unit,
        max(case when item = 'kinesis_on_demand_in' then usd end) as on_demand_in_gb,
        max(case when item = 'kinesis_on_demand_out' then usd end) as on_demand_out_gb,
        max(case when item = 's3_put' then usd end) / 1e3 as s3_put,
        max(case when item = 's3_stored' then usd end) as s3_gb_month
    from {{ ref('aws_prices') }}
),

counted as (
    select
        committed.feed,
        committed.commit_day,
        committed.commits,
        coalesce(written.records, 0) as records,
        coalesce(written.payload_bytes, 0) as payload_bytes,
        coalesce(written.put_payload_units, 0) as put_payload_units,
        coalesce(written.kinesis_bytes, 0) / 1073741824e0 as kinesis_gb,
        coalesce(written.objects, 0) + 4 * committed.commits as s3_puts,
        coalesce(written.stored_bytes, 0) / 1073741824e0 as stored_gb
    from committed
    left join written
        on committed.feed = written.feed and committed.commit_day = written.commit_day
),

priced as (
    select
        counted.*,
        counted.put_payload_units * prices.put_payload_unit as kinesis_put_usd,
        counted.kinesis_gb * (prices.on_demand_in_gb + prices.on_demand_out_gb)
            as kinesis_on_demand_usd,
        counted.s3_puts * prices.s3_put as s3_put_usd,
        counted.stored_gb * prices.s3_gb_month as stored_month_usd
    from counted
    cross join prices
)

select
    cast(feed as varchar) as feed,
    cast(commit_day as date) as commit_day,
    cast(commits as bigint) as commits,
    cast(records as bigint) as records,
    cast(payload_bytes as bigint) as payload_bytes,
    cast(ceil(put_payload_units) as bigint) as put_payload_units,
    cast(round(kinesis_gb, 9) as double) as kinesis_gb,
    cast(s3_puts as bigint) as s3_puts,
    cast(round(stored_gb, 9) as double) as stored_gb,
    cast(round(kinesis_put_usd, 9) as double) as kinesis_put_usd,
    cast(round(kinesis_on_demand_usd, 9) as double) as kinesis_on_demand_usd,
    cast(round(s3_put_usd, 9) as double) as s3_put_usd,
    cast(round(stored_month_usd, 9) as double) as stored_month_usd,
    cast(round(kinesis_put_usd + s3_put_usd + stored_month_usd, 9) as double) as total_usd,
    cast(
        round(1e6 * {{ ratio('kinesis_put_usd + s3_put_usd + stored_month_usd', 'records') }}, 6)
        as double
    ) as cost_per_million_records_usd
from priced
