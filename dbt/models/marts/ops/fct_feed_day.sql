{#- One row per feed and UTC day of arrival (of a slice's first record): what arrived, what became of
    it, how long its commit took. Gaps count on the day of the commit that named them: what was lost
    has no arrival. The empty slice that ends a shard never arrived and is left out. is_complete: no gap,
    and at least as many rows, repetitions, ignored and rejected messages as there were messages (one
    message may hold several rows). -#}
with arrived as (
    select
        feed,
        cast(arrived_from as date) as arrival_day,
        count(*) as slices,
        count(distinct first_commit) as commits,
        sum(records) as records,
        sum(messages) as messages,
        sum(silver_rows) as silver_rows,
        sum(dropped_rows) as dropped_rows,
        sum(duplicates) as duplicates,
        sum(ignored) as ignored,
        sum(rejected) as rejected,
        sum(payload_bytes) as payload_bytes,
        sum(stored_bytes) as stored_bytes,
        sum(objects) as objects,
        min(arrived_from) as first_arrival,
        max(arrived_to) as last_arrival,
        avg(
            case when not is_extract
                then {{ milliseconds_between('arrived_to', 'first_committed_at') }} / 1000e0 end
        ) as commit_delay_mean_seconds,
        max(
            case when not is_extract
                then {{ milliseconds_between('arrived_to', 'first_committed_at') }} / 1000e0 end
        ) as commit_delay_max_seconds
    from {{ ref('int_ledger_slices') }}
    where arrived_from is not null
    group by feed, cast(arrived_from as date)
),

lost as (
    select gaps.feed, cast(commits.committed_at as date) as arrival_day, count(*) as gaps
    from {{ ref('int_ledger_gaps') }} as gaps
    inner join {{ ref('int_ledger_commits') }} as commits
        on gaps.feed = commits.feed and gaps.commit = commits.commit
    group by gaps.feed, cast(commits.committed_at as date)
),

days as (
    select feed, arrival_day from arrived
    union
    select feed, arrival_day from lost
)

select
    cast(days.feed as varchar) as feed,
    cast(days.arrival_day as date) as arrival_day,
    cast(coalesce(arrived.slices, 0) as bigint) as slices,
    cast(coalesce(arrived.commits, 0) as bigint) as commits,
    cast(coalesce(arrived.records, 0) as bigint) as records,
    cast(coalesce(arrived.messages, 0) as bigint) as messages,
    cast(coalesce(arrived.silver_rows, 0) as bigint) as silver_rows,
    cast(coalesce(arrived.dropped_rows, 0) as bigint) as dropped_rows,
    cast(coalesce(arrived.duplicates, 0) as bigint) as duplicates,
    cast(coalesce(arrived.ignored, 0) as bigint) as ignored,
    cast(coalesce(arrived.rejected, 0) as bigint) as rejected,
    cast(round({{ ratio('arrived.rejected', 'arrived.messages') }}, 9) as double) as reject_share,
    cast(coalesce(arrived.payload_bytes, 0) as bigint) as payload_bytes,
    cast(coalesce(arrived.stored_bytes, 0) as bigint) as stored_bytes,
    cast(coalesce(arrived.objects, 0) as bigint) as objects,
    cast(coalesce(lost.gaps, 0) as bigint) as gaps,
    {{ micros('arrived.first_arrival') }} as first_arrival,
    {{ micros('arrived.last_arrival') }} as last_arrival,
    cast(round(arrived.commit_delay_mean_seconds, 3) as double) as commit_delay_mean_seconds,
    cast(round(arrived.commit_delay_max_seconds, 3) as double) as commit_delay_max_seconds,
    coalesce(lost.gaps, 0) = 0
        and coalesce(arrived.messages, 0) <= coalesce(
            arrived.silver_rows + arrived.dropped_rows + arrived.duplicates
            + arrived.ignored + arrived.rejected,
            0
        ) as is_complete
from days
left join arrived on days.feed = arrived.feed and days.arrival_day = arrived.arrival_day
left join lost on days.feed = lost.feed and days.arrival_day = lost.arrival_day
