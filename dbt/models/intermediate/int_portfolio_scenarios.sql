{#- Historical simulation: what today's holdings would have made in each of the last var_window_days
    sessions: sum of market value x that session's return. Only complete scenarios: every priced
    holding other than cash has a return. Grain: portfolio, as_of_date, currency, scenario_date.
    Hull, Options, Futures, and Other Derivatives, ch. 22 "Value at Risk". -#}
with holdings as (
    select portfolio, as_of_date, currency, symbol, market_value
    from {{ ref('int_risk_holdings') }}
    where not is_cash and market_value <> 0
),

needed as (
    select portfolio, as_of_date, currency, count(*) as holdings
    from holdings
    group by portfolio, as_of_date, currency
),

moves as (
    select
        holdings.portfolio,
        holdings.as_of_date,
        holdings.currency,
        returns.session_date as scenario_date,
        count(*) as moved,
        {#- Decimals: a sum of doubles depends on its order. -#}
        sum(
            cast(
                round(cast(holdings.market_value as double) * returns.simple_return, 8)
                as decimal(28, 8)
            )
        ) as pnl
    from holdings
    inner join {{ ref('int_daily_returns') }} as returns
        on holdings.symbol = returns.symbol
        and returns.session_date <= holdings.as_of_date
    group by holdings.portfolio, holdings.as_of_date, holdings.currency, returns.session_date
),

numbered as (
    select
        moves.*,
        row_number() over (
            partition by portfolio, as_of_date, currency order by scenario_date desc
        ) as sessions_ago
    from moves
)

select
    numbered.portfolio,
    numbered.as_of_date,
    numbered.currency,
    numbered.scenario_date,
    cast(numbered.sessions_ago as bigint) as sessions_ago,
    cast(needed.holdings as bigint) as holdings,
    cast(numbered.pnl as decimal(28, 8)) as pnl
from numbered
inner join needed
    on numbered.portfolio = needed.portfolio
    and numbered.as_of_date = needed.as_of_date
    and numbered.currency = needed.currency
where numbered.moved = needed.holdings
    and numbered.sessions_ago <= {{ var('var_window_days') }}
