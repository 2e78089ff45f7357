{#- What risk is computed of: the holdings of every portfolio and of all of them together ('TOTAL'),
    on the last risk_days days with positions of each (none: all days).
    Grain: portfolio, as_of_date, currency, symbol. TOTAL adds up the portfolios that have positions
    on the day; long and short of a symbol cancel. -#}
with positions as (
    select
        portfolio, session_date, currency, symbol, is_cash, market_value,
        case when is_unpriced then 1 else 0 end as unpriced
    from {{ ref('int_position_days') }}
),

books as (
    select portfolio, session_date, currency, symbol, is_cash, market_value, unpriced
    from positions
    union all
    select
        'TOTAL' as portfolio, session_date, currency, symbol, is_cash,
        sum(market_value) as market_value,
        max(unpriced) as unpriced
    from positions
    group by session_date, currency, symbol, is_cash
),

ranked as (
    select
        books.*,
        dense_rank() over (partition by portfolio order by session_date desc) as days_ago
    from books
)

select
    cast(portfolio as varchar) as portfolio,
    session_date as as_of_date,
    currency,
    symbol,
    is_cash,
    cast(market_value as decimal(28, 8)) as market_value,
    unpriced = 1 as is_unpriced
from ranked
where {% if var('risk_days') is none %}true{% else %}days_ago <= {{ var('risk_days') }}{% endif %}
