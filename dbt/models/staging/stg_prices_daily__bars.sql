{#- Daily bars: one row per source, symbol and session_date, its latest known version.
    Where several sources have a symbol's session, one is preferred: the first that the var
    price_sources names, else the first by name. -#}
{%- set preferred = var('price_sources') -%}
with versions as (
    select
        source, symbol, session_date, open, high, low, close, adj_close, volume, known_at_ns,
        row_number() over (
            partition by source, symbol, session_date
            order by
                known_at_ns desc, ts_arrival_ns desc, close desc, adj_close desc nulls last,
                open desc, high desc, low desc, volume desc nulls last
        ) as version
    from {{ source('silver', 'prices_daily') }}
),

latest as (
    select
        versions.*,
        row_number() over (
            partition by symbol, session_date
            order by
                {%- if preferred %}
                case source
                    {%- for name in preferred %} when '{{ name }}' then {{ loop.index }}{% endfor %}
                    else {{ preferred | length + 1 }}
                end,
                {%- endif %}
                source
        ) as preference
    from versions
    where version = 1
)
select
    cast(source as varchar) as source,
    cast(symbol as varchar) as symbol,
    cast(session_date as date) as session_date,
    cast(open as decimal(18, 8)) as open,
    cast(high as decimal(18, 8)) as high,
    cast(low as decimal(18, 8)) as low,
    cast(close as decimal(18, 8)) as close,
    cast(adj_close as decimal(18, 8)) as adj_close,
    cast(volume as decimal(18, 4)) as volume,
    cast(known_at_ns as bigint) as known_at_ns,
    preference = 1 as is_preferred
from latest
