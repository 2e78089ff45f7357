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
