{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- A session in one line. Grain: venue, symbol, session_date, which is the UTC day for the venues known
    so far (tested). VWAP = sum of price x size / sum of size. TWAP = mean of the closes of the minutes
    that had trades. imbalance = (bought - sold) / (bought + sold), by aggressor. -#}
with trades as (
    select * from {{ ref('int_enriched_trades') }} where {{ in_days('event_day') }}
),

sessions as (
    select
        venue, symbol, session_date, event_day,
        min_by(price, row(ts_event_ns, length(trade_id), trade_id)) as first_price,
        max_by(price, row(ts_event_ns, length(trade_id), trade_id)) as last_price,
        max(price) as high,
        min(price) as low,
        sum(size) as volume,
        sum(notional) as notional,
        count(*) as trades,
        coalesce(sum(case when aggressor = 'buy' then size end), 0) as buy_volume,
        coalesce(sum(case when aggressor = 'sell' then size end), 0) as sell_volume
    from trades
    group by venue, symbol, session_date, event_day
),

minutes as (
    select venue, symbol, event_day, count(*) as minutes, sum(close) as closes
    from {{ ref('fct_bars_1m') }}
    where {{ in_days('event_day') }}
    group by venue, symbol, event_day
)

select
    cast(sessions.venue as varchar) as venue,
    cast(sessions.symbol as varchar) as symbol,
    cast(sessions.session_date as date) as session_date,
    cast(sessions.event_day as date) as event_day,
    cast(first_price as decimal(28, 8)) as first_price,
    cast(last_price as decimal(28, 8)) as last_price,
    cast(high as decimal(28, 8)) as high,
    cast(low as decimal(28, 8)) as low,
    cast(round({{ ratio('last_price', 'first_price') }} - 1e0, 10) as double) as session_return,
    {{ vwap('notional', 'volume') }} as vwap,
    cast(round({{ ratio('closes', 'minutes') }}, 8) as decimal(28, 8)) as twap,
    cast(minutes as bigint) as minutes,
    cast(volume as decimal(38, 8)) as volume,
    cast(notional as decimal(38, 16)) as notional,
    cast(trades as bigint) as trades,
    cast(buy_volume as decimal(38, 8)) as buy_volume,
    cast(sell_volume as decimal(38, 8)) as sell_volume,
    cast(
        round({{ ratio('buy_volume - sell_volume', 'buy_volume + sell_volume') }}, 10) as double
    ) as imbalance
from sessions
inner join minutes
    on sessions.venue = minutes.venue
    and sessions.symbol = minutes.symbol
    and sessions.event_day = minutes.event_day
