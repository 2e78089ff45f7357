{#- The bars as the stream computed them, each in its last revision. -#}
select
    venue, symbol, ts_event_ns, ts_event, cast(ts_event as date) as event_day,
    open, high, low, close, volume, notional, vwap, trades, first_trade_ns, last_trade_ns, revision
from (
    select
        bars.*,
        row_number() over (
            partition by venue, symbol, ts_event_ns order by revision desc
        ) as newest
    from {{ source('silver', 'bars_1m') }} as bars
) as revisions
where newest = 1
