{#- Of bars of every width: open, close and VWAP lie between low and high, trades and volume are positive,
    first and last trade lie within the bar. Fails with: the bar. -#}
with bars as (
    {% for width, seconds in [('1m', 60), ('5m', 300), ('1h', 3600), ('1d', 86400)] -%}
    select
        '{{ width }}' as width, venue, symbol, ts_event, ts_event_ns, open, high, low, close, vwap,
        volume, trades, first_trade_ns, last_trade_ns, {{ seconds * 1000000000 }} as width_ns
    from {{ ref('fct_bars_' ~ width) }}
    where {{ in_days('event_day') }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select *
from bars
where not (
    open between low and high
    and close between low and high
    and vwap between low and high
    and volume > 0
    and trades > 0
    and first_trade_ns <= last_trade_ns
    and first_trade_ns >= ts_event_ns
    and last_trade_ns < ts_event_ns + width_ns
)
