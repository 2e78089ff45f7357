{#- One row per slice as it is now: its newest "slice" event (a replay says a slice anew and
    supersedes what was redriven and dropped before), plus what was redriven since, minus what
    retention dropped. The rule of `stream.lake.history.current_slices`. -#}
with said as (
    select
        events.*,
        commits.kind = 'replay' as is_replay
    from {{ ref('int_ledger_events') }} as events
    inner join {{ ref('int_ledger_commits') }} as commits
        on events.feed = commits.feed and events.commit = commits.commit
    where events.event = 'slice'
),

numbered as (
    select
        feed,
        slice_id,
        max(commit) as newest_commit,
        coalesce(max(case when not is_replay then commit end), min(commit)) as first_commit
    from said
    group by feed, slice_id
),

newest as (
    select said.*, numbered.first_commit
    from said
    inner join numbered
        on said.feed = numbered.feed
        and said.slice_id = numbered.slice_id
        and said.commit = numbered.newest_commit
),

first_said as (
    select said.feed, said.slice_id, said.committed_at as first_committed_at
    from said
    inner join numbered
        on said.feed = numbered.feed
        and said.slice_id = numbered.slice_id
        and said.commit = numbered.first_commit
),

since as (
    select
        newest.feed,
        newest.slice_id,
        sum(case when later.event = 'redriven' then later.messages end) as redriven_messages,
        sum(case when later.event = 'redriven' then later.silver_rows end) as redriven_rows,
        sum(case when later.event = 'redriven' then later.duplicates end) as redriven_duplicates,
        sum(case when later.event = 'redriven' then later.ignored end) as redriven_ignored,
        sum(case when later.event = 'redriven' then later.objects end) as redriven_objects,
        sum(case when later.event = 'redriven' then later.stored_bytes end) as redriven_bytes,
        sum(case when later.event = 'dropped' then later.silver_rows end) as dropped_rows
    from newest
    inner join {{ ref('int_ledger_events') }} as later
        on newest.feed = later.feed
        and newest.slice_id = later.slice_id
        and later.commit >= newest.commit
        and later.event <> 'slice'
    group by newest.feed, newest.slice_id
)

select
    newest.feed,
    newest.slice_id,
    newest.shard,
    newest.first_commit,
    newest.commit as newest_commit,
    newest.shard like 'extract-%' as is_extract,
    newest.records,
    newest.payload_bytes,
    newest.messages,
    newest.silver_rows as landed_rows,
    cast(coalesce(since.redriven_messages, 0) as bigint) as redriven_messages,
    cast(coalesce(since.redriven_rows, 0) as bigint) as redriven_rows,
    cast(coalesce(since.dropped_rows, 0) as bigint) as dropped_rows,
    cast(
        newest.silver_rows + coalesce(since.redriven_rows, 0) - coalesce(since.dropped_rows, 0)
        as bigint
    ) as silver_rows,
    cast(newest.duplicates + coalesce(since.redriven_duplicates, 0) as bigint) as duplicates,
    cast(newest.ignored + coalesce(since.redriven_ignored, 0) as bigint) as ignored,
    cast(newest.rejected - coalesce(since.redriven_messages, 0) as bigint) as rejected,
    cast(newest.objects + coalesce(since.redriven_objects, 0) as bigint) as objects,
    cast(newest.stored_bytes + coalesce(since.redriven_bytes, 0) as bigint) as stored_bytes,
    newest.arrived_from,
    newest.arrived_to,
    newest.event_from,
    newest.event_to,
    newest.committed_at,
    first_said.first_committed_at
from newest
inner join first_said on newest.feed = first_said.feed and newest.slice_id = first_said.slice_id
left join since on newest.feed = since.feed and newest.slice_id = since.slice_id
