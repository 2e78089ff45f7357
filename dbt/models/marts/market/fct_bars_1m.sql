{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- One-minute bars of the trades that stand. Grain: venue, symbol, minute; minutes without trades
    have none. Open and close are the trades with the least and the greatest (time, length of id, id):
    the definition of stream.bars.FROM_TRADES. -#}
with trades as (
    select enriched.*, ts_event_ns - ts_event_ns % 60000000000 as minute_ns
    from {{ ref('int_enriched_trades') }} as enriched
    where {{ in_days('event_day') }}
),

bars as (
    select
        venue, symbol, event_day, minute_ns,
        min_by(price, row(ts_event_ns, length(trade_id), trade_id)) as open,
        max(price) as high,
        min(price) as low,
        max_by(price, row(ts_event_ns, length(trade_id), trade_id)) as close,
        sum(size) as volume,
        sum(notional) as notional,
        count(*) as trades,
        min(ts_event_ns) as first_trade_ns,
        max(ts_event_ns) as last_trade_ns
    from trades
    group by venue, symbol, event_day, minute_ns
)

{{ select_bars('bars', 'minute_ns') }}
