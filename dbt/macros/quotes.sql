{#- Quotes, each once: a late repetition of one that Silver could not know any more is left out. The same
    id at another time is another quote: whether a row counts follows from rows of its own time, so
    that a run of some days sees what a full one sees.
    `only_days`: of the days to recompute, and `seconds` before them. -#}
{% macro distinct_quotes(only_days=false, seconds=0) -%}
select
    venue, symbol, quote_id, bid_price, bid_size, ask_price, ask_size, ts_event_ns, session_date,
    ts_event, event_day
from (
    select
        quotes.*,
        cast(ts_event as date) as event_day,
        row_number() over (
            partition by venue, symbol, ts_event_ns, quote_id
            order by ts_arrival_ns, slice_id, length(sequence_number), sequence_number, line_no
        ) as copy
    from {{ source('silver', 'quotes') }} as quotes
    {%- if only_days %}
    where {{ from_before_first_day('ts_event', seconds) }}
    {%- endif %}
) as copies
where copy = 1
{%- endmacro %}

{#- Each row of `trades` with the last row of `quotes` (one per venue, symbol and quote_ns) at or before
    its time, null if that is older than `max_age_ns` or there is none. Both are names of relations.
    DuckDB has a join for it. In the words that both dialects have: among quotes and trades in order of
    time, the time of the last quote is the running maximum. The age is looked at before the join, which
    must have nothing but equalities: DuckDB compares every pair otherwise. -#}
{% macro with_last_quote(trades, quotes, max_age_ns) -%}
  {{ return(adapter.dispatch('with_last_quote')(trades, quotes, max_age_ns)) }}
{%- endmacro %}
{% macro duckdb__with_last_quote(trades, quotes, max_age_ns) -%}
select
    as_of.* exclude (fresh_ns),
    case when quote_ns >= fresh_ns then quote_ns end as quote_ns,
    {%- for column in ['bid_price', 'bid_size', 'ask_price', 'ask_size'] %}
    case when quote_ns >= fresh_ns then {{ column }} end as {{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
from (
    select t.*, t.ts_event_ns - {{ max_age_ns }} as fresh_ns from {{ trades }} as t
) as as_of
asof left join {{ quotes }} as q
    on as_of.venue = q.venue and as_of.symbol = q.symbol and as_of.ts_event_ns >= q.quote_ns
{%- endmacro %}
{% macro athena__with_last_quote(trades, quotes, max_age_ns) -%}
select t.*, q.quote_ns, q.bid_price, q.bid_size, q.ask_price, q.ask_size
from {{ trades }} as t
inner join (
    select
        venue, symbol, trade_id, turn,
        case when last_ns >= at_ns - {{ max_age_ns }} then last_ns end as quote_ns
    from (
        select
            moments.*,
            max(quote_ns) over (
                partition by venue, symbol order by at_ns, turn
                rows between unbounded preceding and current row
            ) as last_ns
        from (
            select
                venue, symbol, quote_ns as at_ns, 0 as turn, quote_ns,
                cast(null as varchar) as trade_id
            from {{ quotes }}
            union all
            select
                venue, symbol, ts_event_ns as at_ns, 1 as turn, cast(null as bigint) as quote_ns,
                trade_id
            from {{ trades }}
        ) as moments
    ) as ordered
) as found
    on t.venue = found.venue
    and t.symbol = found.symbol
    and t.trade_id = found.trade_id
    and found.turn = 1
left join {{ quotes }} as q
    on found.venue = q.venue and found.symbol = q.symbol and found.quote_ns = q.quote_ns
{%- endmacro %}
