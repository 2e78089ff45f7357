{#- One-minute bars rolled up to bars of `seconds`, which must divide a day. Associative: the first
    open, the last close, sums of the rest. -#}
{% macro roll_up(seconds) -%}
{%- set width = seconds * 1000000000 -%}
with bars as (
    select bars_1m.*, ts_event_ns - ts_event_ns % {{ width }} as bar_ns
    from {{ ref('fct_bars_1m') }} as bars_1m
    where {{ in_days('event_day') }}
),

rolled as (
    select
        venue, symbol, event_day, bar_ns,
        min_by(open, ts_event_ns) as open,
        max(high) as high,
        min(low) as low,
        max_by(close, ts_event_ns) as close,
        sum(volume) as volume,
        sum(notional) as notional,
        sum(trades) as trades,
        min(first_trade_ns) as first_trade_ns,
        max(last_trade_ns) as last_trade_ns
    from bars
    group by venue, symbol, event_day, bar_ns
)

{{ select_bars('rolled', 'bar_ns') }}
{%- endmacro %}

{#- The columns of every table of bars. -#}
{% macro select_bars(relation, start_ns) -%}
select
    cast(venue as varchar) as venue,
    cast(symbol as varchar) as symbol,
    cast(event_day as date) as event_day,
    cast({{ start_ns }} as bigint) as ts_event_ns,
    {{ timestamp_of_ns(start_ns) }} as ts_event,
    cast(open as decimal(28, 8)) as open,
    cast(high as decimal(28, 8)) as high,
    cast(low as decimal(28, 8)) as low,
    cast(close as decimal(28, 8)) as close,
    cast(volume as decimal(38, 8)) as volume,
    cast(notional as decimal(38, 16)) as notional,
    {{ vwap('notional', 'volume') }} as vwap,
    cast(trades as bigint) as trades,
    cast(first_trade_ns as bigint) as first_trade_ns,
    cast(last_trade_ns as bigint) as last_trade_ns
from {{ relation }}
{%- endmacro %}

{#- Volume-weighted average price, rounded to 8 decimals; null without volume. It lies between the
    lowest and the highest price; a double has digits for that below 10^8 only, so it is held there. -#}
{% macro vwap(notional, volume, low='low', high='high') -%}
{%- set rounded = 'cast(round(' ~ ratio(notional, volume) ~ ', 8) as decimal(28, 8))' -%}
case
        when {{ rounded }} < {{ low }} then cast({{ low }} as decimal(28, 8))
        when {{ rounded }} > {{ high }} then cast({{ high }} as decimal(28, 8))
        else {{ rounded }}
    end
{%- endmacro %}
