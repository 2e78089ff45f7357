{#- Bars within the day: one row per source, symbol, bar_interval and start, its latest known version. -#}
select
    source, symbol, bar_interval, session_date, ts_event_ns, ts_event,
    cast(open as decimal(18, 8)) as open,
    cast(high as decimal(18, 8)) as high,
    cast(low as decimal(18, 8)) as low,
    cast(close as decimal(18, 8)) as close,
    cast(volume as decimal(18, 4)) as volume,
    known_at_ns
from (
    select
        bars.*,
        bars."interval" as bar_interval,
        row_number() over (
            partition by source, symbol, bars."interval", ts_event_ns
            order by
                known_at_ns desc, ts_arrival_ns desc, close desc, open desc, high desc, low desc,
                volume desc
        ) as version
    from {{ source('silver', 'prices_intraday') }} as bars
) as versions
where version = 1
