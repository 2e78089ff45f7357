{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- What trading cost and how much stood at the best prices. Grain: venue, symbol, event_day with quotes.
    quoted_spread_bps = (ask - bid) / mid x 10,000, weighted with the time that each quote stood: until
    the next one of the day, at most quote_max_age_seconds; the plain mean if none stood. Depth: value
    at the best bid and ask, halved. Effective spread: see int_enriched_trades. -#}
{%- set max_age_ns = var('quote_max_age_seconds') * 1000000000 -%}
with quotes as (
    select
        day_quotes.*,
        lead(ts_event_ns) over (
            partition by venue, symbol, event_day
            order by ts_event_ns, length(quote_id), quote_id
        ) - ts_event_ns as gap_ns,
        cast(bid_price as double) as bid,
        cast(ask_price as double) as ask
    from ({{ distinct_quotes(only_days=true) }}) as day_quotes
    where {{ in_days('event_day') }}
),

weighed as (
    select
        quotes.*,
        case
            when gap_ns is null then 0
            when gap_ns > {{ max_age_ns }} then {{ max_age_ns }}
            else gap_ns
        end as stood_ns,
        cast(round(2e4 * {{ ratio('ask - bid', 'ask + bid') }}, 9) as decimal(28, 9)) as spread_bps,
        cast(
            round((bid * cast(bid_size as double) + ask * cast(ask_size as double)) / 2e0, 8)
            as decimal(28, 8)
        ) as depth
    from quotes
),

books as (
    select
        venue, symbol, event_day,
        count(*) as quotes,
        sum(spread_bps * cast(stood_ns as decimal(18, 0))) as weighed_spread,
        sum(stood_ns) as stood_ns,
        sum(spread_bps) as spreads,
        sum(depth) as depths,
        sum(case when bid_price > ask_price then 1 else 0 end) as crossed,
        sum(case when bid_price = ask_price then 1 else 0 end) as locked
    from weighed
    group by venue, symbol, event_day
),

trades as (
    select
        venue, symbol, event_day,
        count(*) as trades,
        count(mid_price) as quoted_trades,
        sum(cast(round(effective_spread_bps, 6) as decimal(38, 6))) as effective_spreads,
        sum(case when price > bid_price and price < ask_price then 1 else 0 end) as inside
    from {{ ref('int_enriched_trades') }}
    where {{ in_days('event_day') }}
    group by venue, symbol, event_day
)

select
    cast(books.venue as varchar) as venue,
    cast(books.symbol as varchar) as symbol,
    cast(books.event_day as date) as event_day,
    cast(books.quotes as bigint) as quotes,
    cast(
        round(
            case
                when stood_ns > 0 then {{ ratio('weighed_spread', 'stood_ns') }}
                else {{ ratio('spreads', 'books.quotes') }}
            end, 6
        ) as double
    ) as quoted_spread_bps,
    cast(round({{ ratio('depths', 'books.quotes') }}, 6) as double) as mean_depth,
    cast(round({{ ratio('crossed', 'books.quotes') }}, 9) as double) as crossed_share,
    cast(round({{ ratio('locked', 'books.quotes') }}, 9) as double) as locked_share,
    cast(coalesce(trades.trades, 0) as bigint) as trades,
    cast(coalesce(trades.quoted_trades, 0) as bigint) as quoted_trades,
    cast(round({{ ratio('effective_spreads', 'quoted_trades') }}, 6) as double) as effective_spread_bps,
    cast(round({{ ratio('inside', 'quoted_trades') }}, 9) as double) as inside_share
from books
left join trades
    on books.venue = trades.venue
    and books.symbol = trades.symbol
    and books.event_day = trades.event_day
