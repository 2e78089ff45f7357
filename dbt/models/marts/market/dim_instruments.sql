{#- What is known of every symbol that traded or that the reference data has. Grain: symbol. -#}
with traded as (
    select
        symbol,
        count(distinct venue) as venues,
        min(event_day) as first_day,
        max(event_day) as last_day
    from {{ ref('fct_bars_1d') }}
    group by symbol
),

symbols as (
    select symbol from traded
    union
    select symbol from {{ ref('instruments') }}
)

select
    cast(symbols.symbol as varchar) as symbol,
    cast(instruments.asset_class as varchar) as asset_class,
    cast(instruments.base as varchar) as base,
    cast(instruments.quote_currency as varchar) as quote_currency,
    cast(instruments.description as varchar) as description,
    cast(coalesce(traded.venues, 0) as bigint) as venues,
    cast(traded.first_day as date) as first_day,
    cast(traded.last_day as date) as last_day
from symbols
left join {{ ref('instruments') }} as instruments on symbols.symbol = instruments.symbol
left join traded on symbols.symbol = traded.symbol
