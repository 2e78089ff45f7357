{{ config(severity=var('silence_severity')) }}
{#- A venue that never closes, with a trade a minute and more, had trades in every hour between its
    first and last one of the day. Asked of Silver, before anything is built on it. Fails with: the
    hours without. -#}
with hours as (
    select
        venue, cast(ts_event as date) as event_day, hour(ts_event) as hour, count(*) as trades
    from {{ source('silver', 'trades') }}
    where {{ in_days_ts('ts_event') }}
    group by venue, cast(ts_event as date), hour(ts_event)
),

days as (
    select
        hours.venue, event_day,
        min(hour) as first_hour, max(hour) as last_hour,
        count(*) as hours_with_trades, sum(trades) as trades
    from hours
    inner join {{ ref('venues') }} as venues on hours.venue = venues.venue and venues.is_always_open
    group by hours.venue, event_day
),

clock as (
    {% for hour in range(24) -%}
    select {{ hour }} as hour{% if not loop.last %} union all {% endif %}
    {%- endfor %}
)

select days.venue, days.event_day, clock.hour, days.trades, days.hours_with_trades
from days
inner join clock on clock.hour between days.first_hour and days.last_hour
left join hours
    on days.venue = hours.venue and days.event_day = hours.event_day and clock.hour = hours.hour
where hours.venue is null and days.trades >= 60 * days.hours_with_trades
