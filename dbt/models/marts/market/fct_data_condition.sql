{#- Whether a day of a venue's trades can be relied on, in Databento's words. Grain: venue, event_day.
    pending: the newest day of all venues, it may go on. missing: no trades, although the venue had some
    before and after and never closes. degraded: an hour without trades between the day's first and last
    ones at a venue that never closes, named gaps, or more than 1 % of messages rejected. Else available.
    Gaps and rejects are those of records that arrived on that day. -#}
with days as (
    select
        venue, event_day,
        sum(trades) as trades,
        count(*) as hours_with_trades,
        max(hour) - min(hour) + 1 - count(*) as silent_hours,
        min(first_trade_ns) as first_trade_ns,
        max(last_trade_ns) as last_trade_ns
    from {{ ref('int_venue_hours') }}
    group by venue, event_day
),

{#- Days on which anybody traded, between a venue's first and last one. -#}
wanted as (
    select spans.venue, calendar.event_day
    from (
        select venue, min(event_day) as first_day, max(event_day) as last_day
        from days
        group by venue
    ) as spans
    inner join (select distinct event_day from days) as calendar
        on calendar.event_day between spans.first_day and spans.last_day
),

told as (
    select
        wanted.venue,
        wanted.event_day,
        wanted.event_day = max(wanted.event_day) over () as is_newest,
        coalesce(venues.is_always_open, false) as is_always_open,
        coalesce(days.trades, 0) as trades,
        coalesce(days.hours_with_trades, 0) as hours_with_trades,
        coalesce(days.silent_hours, 0) as silent_hours,
        days.first_trade_ns,
        days.last_trade_ns,
        coalesce(feed_days.gaps, 0) as gaps,
        coalesce(feed_days.reject_share, 0e0) as reject_share
    from wanted
    left join days on wanted.venue = days.venue and wanted.event_day = days.event_day
    left join {{ ref('venues') }} as venues on wanted.venue = venues.venue
    left join {{ ref('fct_feed_day') }} as feed_days
        on feed_days.feed = 'trades' and wanted.event_day = feed_days.arrival_day
)

select
    cast(venue as varchar) as venue,
    cast(event_day as date) as event_day,
    cast(
        case
            when is_newest then 'pending'
            when trades = 0 and is_always_open then 'missing'
            when (is_always_open and silent_hours > 0) or gaps > 0 or reject_share > 0.01e0
                then 'degraded'
            else 'available'
        end as varchar
    ) as data_condition,
    cast(
        case
            when is_newest then 'the newest day may go on'
            when trades = 0 and is_always_open then 'no trades'
            when gaps > 0 then 'the source no longer held some records'
            when reject_share > 0.01e0 then 'more than 1 % of messages were rejected'
            when is_always_open and silent_hours > 0 then 'hours without trades'
            else ''
        end as varchar
    ) as reason,
    cast(trades as bigint) as trades,
    cast(hours_with_trades as bigint) as hours_with_trades,
    cast(silent_hours as bigint) as silent_hours,
    cast(first_trade_ns as bigint) as first_trade_ns,
    cast(last_trade_ns as bigint) as last_trade_ns,
    cast(gaps as bigint) as gaps,
    cast(reject_share as double) as reject_share,
    is_always_open
from told
