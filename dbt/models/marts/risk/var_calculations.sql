{#- Value at risk and expected shortfall, from the P&L of int_portfolio_scenarios.
    Grain: portfolio ('TOTAL': all), as_of_date, currency, method, confidence, horizon_days.
    With n scenarios and the tail p = 1 - confidence in percent (whole numbers: n x p / 100 in doubles
    would round 5 up to 6):
    historical VaR = minus the k-th worst P&L, k = ceil(n p / 100);
    historical ES = minus the mean of the worst n p / 100, the k-th weighted with what is left
    (Acerbi and Tasche 2002, On the coherence of expected shortfall);
    parametric VaR = z sd, ES = sd phi(z) / (p / 100): normal, mean zero (Hull ch. 22; McNeil, Frey,
    Embrechts, Quantitative Risk Management ch. 2). 10 days = sqrt(10) x 1 day. -#}
with levels as (
    select
        cast(0.95 as decimal(3, 2)) as confidence,
        5 as tail,
        cast(1.6448536269514722 as double) as z,
        cast(2.0627128075074257 as double) as shortfall_factor
    union all
    select
        cast(0.99 as decimal(3, 2)) as confidence,
        1 as tail,
        cast(2.3263478740408408 as double) as z,
        cast(2.6652142203457808 as double) as shortfall_factor
),

books as (
    select
        portfolio, as_of_date, currency,
        coalesce(sum(market_value), 0) as portfolio_value,
        sum(case when not is_cash and market_value <> 0 then 1 else 0 end) as holdings,
        sum(case when is_unpriced then 1 else 0 end) as unpriced_positions
    from {{ ref('int_risk_holdings') }}
    group by portfolio, as_of_date, currency
),

ranked as (
    select
        portfolio, as_of_date, currency, pnl,
        row_number() over (
            partition by portfolio, as_of_date, currency order by pnl, scenario_date
        ) as loss_rank,
        count(*) over (partition by portfolio, as_of_date, currency) as observations
    from {{ ref('int_portfolio_scenarios') }}
),

{#- `share`: of each scenario, in percent, how much of it lies in the tail. -#}
tails as (
    select
        ranked.*,
        levels.confidence, levels.z, levels.shortfall_factor,
        observations * tail as tail_size,
        case
            when loss_rank * 100 <= observations * tail then 100
            when (loss_rank - 1) * 100 < observations * tail
                then observations * tail - (loss_rank - 1) * 100
            else 0
        end as share,
        loss_rank * 100 >= observations * tail and (loss_rank - 1) * 100 < observations * tail
            as is_quantile
    from ranked
    cross join levels
),

measured as (
    select
        portfolio, as_of_date, currency, confidence, observations,
        -cast(max(case when is_quantile then pnl end) as double) as historical_var,
        -{{ ratio('sum(pnl * cast(share as decimal(5, 0)))', 'max(tail_size)') }}
            as historical_shortfall,
        max(z) * stddev_samp(cast(pnl as double)) as parametric_var,
        max(shortfall_factor) * stddev_samp(cast(pnl as double)) as parametric_shortfall
    from tails
    group by portfolio, as_of_date, currency, confidence, observations
),

by_method as (
    select
        portfolio, as_of_date, currency, confidence, observations, 'historical' as method,
        case when historical_var > 0 then historical_var else 0 end as loss,
        case when historical_shortfall > 0 then historical_shortfall else 0 end as shortfall
    from measured
    union all
    select
        portfolio, as_of_date, currency, confidence, observations, 'parametric' as method,
        parametric_var as loss, parametric_shortfall as shortfall
    from measured
),

wanted as (
    select books.*, levels.confidence, methods.method, horizons.horizon_days
    from books
    cross join levels
    cross join (select 'historical' as method union all select 'parametric' as method) as methods
    cross join (select 1 as horizon_days union all select 10 as horizon_days) as horizons
),

answers as (
    select
        wanted.*,
        coalesce(by_method.observations, 0) as observations,
        case
            when holdings = 0 then 0
            when by_method.observations >= 20 then loss * sqrt(cast(horizon_days as double))
        end as value_at_risk,
        case
            when holdings = 0 then 0
            when by_method.observations >= 20
                then case when shortfall < loss then loss else shortfall end
                    * sqrt(cast(horizon_days as double))
        end as expected_shortfall
    from wanted
    left join by_method
        on wanted.portfolio = by_method.portfolio
        and wanted.as_of_date = by_method.as_of_date
        and wanted.currency = by_method.currency
        and wanted.confidence = by_method.confidence
        and wanted.method = by_method.method
)

select
    cast(portfolio as varchar) as portfolio,
    cast(as_of_date as date) as as_of_date,
    cast(currency as varchar) as currency,
    cast(method as varchar) as method,
    cast(confidence as decimal(3, 2)) as confidence,
    cast(horizon_days as integer) as horizon_days,
    cast({{ var('var_window_days') }} as integer) as window_days,
    cast(observations as bigint) as observations,
    cast(portfolio_value as decimal(28, 8)) as portfolio_value,
    cast(round(value_at_risk, 4) as double) as value_at_risk,
    cast(round(expected_shortfall, 4) as double) as expected_shortfall,
    cast(holdings as bigint) as holdings,
    cast(unpriced_positions as bigint) as unpriced_positions,
    (holdings = 0 or observations >= 60) and unpriced_positions = 0 as is_reliable
from answers
