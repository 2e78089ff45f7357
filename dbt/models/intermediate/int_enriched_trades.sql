{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- The trades that stand, each with the quote that stood when it happened. Grain: venue, symbol,
    trade_id. The quote is the last one of the venue and symbol at or before the trade's time, at
    most quote_max_age_seconds old; of several at one time the one with the greatest id.
    aggressor: the venue's word, else the quote rule of Lee and Ready (1991): above the mid a buy.
    effective_spread_bps = 2 |price - mid| / mid x 10,000. Both follow from bid + ask and 2 x price, which
    are exact: as doubles, 0.4 would lie above the mid of 0.1 and 0.7. -#}
{%- set max_age_ns = var('quote_max_age_seconds') * 1000000000 -%}
with trades as (
    {{ current_trades(only_days=true) }}
),

quotes as (
    select venue, symbol, ts_event_ns as quote_ns, bid_price, bid_size, ask_price, ask_size
    from (
        select
            recent.*,
            row_number() over (
                partition by venue, symbol, ts_event_ns
                order by length(quote_id) desc, quote_id desc
            ) as place
        from ({{ distinct_quotes(only_days=true, seconds=var('quote_max_age_seconds')) }}) as recent
    ) as simultaneous
    where place = 1
),

{#- An as-of join in words that both dialects have: among quotes and trades in order of time, the
    time of the last quote is the running maximum; at one time quotes come first. -#}
moments as (
    select venue, symbol, quote_ns as at_ns, 0 as turn, quote_ns, cast(null as varchar) as trade_id
    from quotes
    union all
    select venue, symbol, ts_event_ns as at_ns, 1 as turn, cast(null as bigint) as quote_ns, trade_id
    from trades
),

looked_up as (
    select
        venue, symbol, trade_id, turn,
        max(quote_ns) over (
            partition by venue, symbol order by at_ns, turn
            rows between unbounded preceding and current row
        ) as quote_ns
    from moments
),

joined as (
    select
        trades.*,
        quotes.quote_ns,
        quotes.bid_price, quotes.bid_size, quotes.ask_price, quotes.ask_size,
        cast(quotes.bid_price as decimal(28, 8)) + cast(quotes.ask_price as decimal(28, 8)) as twice_mid,
        cast(trades.price as decimal(28, 8)) + cast(trades.price as decimal(28, 8)) as twice_price,
        instruments.asset_class,
        venues.is_always_open
    from trades
    inner join looked_up
        on trades.venue = looked_up.venue
        and trades.symbol = looked_up.symbol
        and trades.trade_id = looked_up.trade_id
        and looked_up.turn = 1
    left join quotes
        on trades.venue = quotes.venue
        and trades.symbol = quotes.symbol
        and looked_up.quote_ns = quotes.quote_ns
        and trades.ts_event_ns - quotes.quote_ns <= {{ max_age_ns }}
    left join {{ ref('venues') }} as venues on trades.venue = venues.venue
    left join {{ ref('instruments') }} as instruments on trades.symbol = instruments.symbol
)

select
    cast(venue as varchar) as venue,
    cast(symbol as varchar) as symbol,
    cast(trade_id as varchar) as trade_id,
    cast(kind as varchar) as kind,
    cast(side as varchar) as side,
    cast(
        case
            when side <> 'unknown' then side
            when twice_price > twice_mid then 'buy'
            when twice_price < twice_mid then 'sell'
            else 'unknown'
        end as varchar
    ) as aggressor,
    cast(price as decimal(28, 8)) as price,
    cast(size as decimal(28, 8)) as size,
    cast(cast(price as decimal(19, 8)) * cast(size as decimal(19, 8)) as decimal(38, 16)) as notional,
    cast(ts_event_ns as bigint) as ts_event_ns,
    {{ micros('ts_event') }} as ts_event,
    cast(known_at_ns as bigint) as known_at_ns,
    cast(session_date as date) as session_date,
    cast(event_day as date) as event_day,
    cast(asset_class as varchar) as asset_class,
    is_always_open,
    cast(bid_price as decimal(28, 8)) as bid_price,
    cast(bid_size as decimal(28, 8)) as bid_size,
    cast(ask_price as decimal(28, 8)) as ask_price,
    cast(ask_size as decimal(28, 8)) as ask_size,
    cast(round({{ ratio('ts_event_ns - quote_ns', '1000000') }}, 3) as double) as quote_age_ms,
    cast(round({{ ratio('twice_mid', '2') }}, 9) as double) as mid_price,
    cast(
        round(2e4 * {{ ratio('abs(twice_price - twice_mid)', 'twice_mid') }}, 6) as double
    ) as effective_spread_bps,
    is_late,
    cast(slice_id as varchar) as slice_id,
    cast(ts_arrival_ns as bigint) as ts_arrival_ns
from joined
