{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- The trades that stand, each with the quote that stood when it happened. Grain: venue, symbol,
    trade_id. The quote is the last one of the venue and symbol at or before the trade's time, at
    most quote_max_age_seconds old; of several at one time the one with the longest, then greatest id.
    aggressor: the venue's word, else the quote rule of Lee and Ready (1991): above the mid a buy,
    below it a sell, at it unknown.
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
                order by
                    length(quote_id) desc, quote_id desc, ts_arrival_ns,
                    slice_id, length(sequence_number), sequence_number, line_no
            ) as place
        from {{ source('silver', 'quotes') }} as recent
        where {{ from_before_first_day('ts_event', var('quote_max_age_seconds')) }}
    ) as simultaneous
    where place = 1
),

as_of as (
    {{ with_last_quote('trades', 'quotes', max_age_ns) }}
),

joined as (
    select
        as_of.*,
        cast(bid_price as decimal(28, 8)) + cast(ask_price as decimal(28, 8)) as twice_mid,
        cast(price as decimal(28, 8)) + cast(price as decimal(28, 8)) as twice_price,
        instruments.asset_class,
        venues.is_always_open
    from as_of
    left join {{ ref('venues') }} as venues on as_of.venue = venues.venue
    left join {{ ref('instruments') }} as instruments on as_of.symbol = instruments.symbol
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
