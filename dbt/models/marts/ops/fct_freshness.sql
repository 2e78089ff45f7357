{#- One row per feed: the newest arrival, event and commit that this build includes, and how far its
    newest arrival lies behind the newest of all feeds. No clock: what it says depends only on the
    pinned Silver. Feeds that never committed a slice have no row. -#}
with newest as (
    select
        slices.feed,
        max(slices.arrived_to) as newest_arrival,
        max(slices.event_to) as newest_event,
        max(slices.committed_at) as newest_commit,
        max(slices.newest_commit) as commit_number
    from {{ ref('int_ledger_slices') }} as slices
    where slices.arrived_to is not null
    group by slices.feed
),

compared as (
    select newest.*, max(newest_arrival) over () as newest_of_all
    from newest
)

select
    cast(feed as varchar) as feed,
    {{ micros('newest_arrival') }} as newest_arrival,
    {{ micros('newest_event') }} as newest_event,
    {{ micros('newest_commit') }} as newest_commit,
    cast(commit_number as bigint) as commit_number,
    cast({{ milliseconds_between('newest_arrival', 'newest_of_all') }} / 1000e0 as double)
        as behind_newest_seconds
from compared
