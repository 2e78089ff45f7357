{#- Silver's trades of the days at hand: nothing that identifies or values a trade is null, prices and
    sizes are positive. Fails with: what is wrong, and the row's keys. -#}
with trades as (
    select
        venue, symbol, trade_id, kind, price, size, ts_event_ns, ts_event, slice_id,
        cast(ts_event as date) as event_day
    from {{ source('silver', 'trades') }}
    where {{ in_days_ts('ts_event') }}
)

select 'null' as fault, trades.*
from trades
where venue is null or symbol is null or trade_id is null or price is null or size is null
union all
select 'not positive' as fault, trades.*
from trades
where price <= 0 or size <= 0
