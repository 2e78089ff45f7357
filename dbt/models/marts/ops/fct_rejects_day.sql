{#- One row per feed, UTC day of arrival and reason: messages that the newest decoding of their slice
    refused, and their share of the feed's messages of the day. Messages that were redriven since
    are still counted here: the ledger does not say for which reason they had been refused. -#}
with refused as (
    select
        rejects.feed,
        cast(rejects.arrived_from as date) as arrival_day,
        rejects.reason,
        sum(rejects.messages) as messages,
        count(distinct rejects.slice_id) as slices
    from {{ ref('int_ledger_rejects') }} as rejects
    inner join {{ ref('int_ledger_slices') }} as slices
        on rejects.feed = slices.feed
        and rejects.slice_id = slices.slice_id
        and rejects.commit = slices.newest_commit
    where rejects.arrived_from is not null
    group by rejects.feed, cast(rejects.arrived_from as date), rejects.reason
)

select
    cast(refused.feed as varchar) as feed,
    cast(refused.arrival_day as date) as arrival_day,
    cast(refused.reason as varchar) as reason,
    cast(refused.messages as bigint) as messages,
    cast(refused.slices as bigint) as slices,
    cast(round({{ ratio('refused.messages', 'feed_days.messages') }}, 9) as double) as share_of_messages
from refused
inner join {{ ref('fct_feed_day') }} as feed_days
    on refused.feed = feed_days.feed and refused.arrival_day = feed_days.arrival_day
