{#- The trades that stand, of the days to recompute if `only_days`.

    Versions of one trade may lie on several days: all rows of the wanted days and the corrections
    of `correction_days` around them are read, ranked, and only then cut to the days. That equals
    the ranking of the whole table as long as a venue announces a trade as new only once; the
    version rule is that of `stream.bars.FROM_TRADES`; of equal copies the first that arrived.

    `known_by`: SQL for a time in ns; only what was known then counts (trades_asof). -#}
{% macro current_trades(only_days=false, known_by=none) -%}
select
    venue, symbol, trade_id, kind, side, price, size, ts_event_ns, known_at_ns, session_date,
    ts_event, ts_arrival_ns, is_late, slice_id, event_day
from (
    select
        trades.*,
        cast(ts_event as date) as event_day,
        row_number() over (
            partition by venue, symbol, trade_id
            order by
                known_at_ns desc,
                case kind when 'cancel' then 2 when 'correct' then 1 else 0 end desc,
                ts_event_ns desc, price desc, size desc,
                ts_arrival_ns, slice_id, length(sequence_number), sequence_number, line_no
        ) as version
    from {{ source('silver', 'trades') }} as trades
    where true
    {%- if known_by is not none %} and known_at_ns <= {{ known_by }}{% endif %}
    {%- if only_days %}
      and (
        ({{ in_days_ts('ts_event') }})
        or (kind in ('correct', 'cancel') and {{ in_days_ts('ts_event', var('correction_days')) }})
      )
    {%- endif %}
) as ranked
where version = 1 and kind <> 'cancel'
{%- if only_days %} and {{ in_days('event_day') }}{% endif %}
{%- endmacro %}
