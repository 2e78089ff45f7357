{#- A portfolio's day in each of its currencies. Grain: portfolio, session_date, currency. No FX.
    total_pnl = equity - equity of the session before - net external flow; day_return = total_pnl /
    that equity: flows are taken to come at the end of the day and earn nothing on it. -#}
with sessions as (
    select portfolio, session_date, previous_session_date
    from {{ ref('int_portfolio_sessions') }}
),

holdings as (
    select
        portfolio, session_date, currency,
        sum(case when is_cash then 0 else market_value end) as market_value,
        sum(case when is_cash then market_value else 0 end) as cash,
        sum(case when not is_cash and market_value > 0 then market_value else 0 end)
            as long_exposure,
        sum(case when not is_cash and market_value < 0 then -market_value else 0 end)
            as short_exposure,
        sum(case when is_cash then 0 else unrealised_pnl end) as unrealised_pnl,
        sum(case when not is_cash and quantity <> 0 then 1 else 0 end) as positions,
        sum(case when is_unpriced then 1 else 0 end) as unpriced_positions,
        sum(case when is_stale and quantity <> 0 then 1 else 0 end) as stale_positions
    from {{ ref('int_position_days') }}
    group by portfolio, session_date, currency
),

realised as (
    select
        portfolio, session_date, currency,
        case when count(*) = count(realised_pnl) then sum(realised_pnl) end as realised_pnl
    from {{ ref('int_realised_pnl') }}
    group by portfolio, session_date, currency
),

flows as (
    select
        portfolio, session_date, currency,
        sum(case when kind = 'dividend' then quantity else 0 end) as dividends,
        sum(case when kind = 'fee' then quantity + fee else fee end) as fees,
        sum(
            case kind when 'deposit' then quantity when 'withdraw' then -quantity else 0 end
        ) as net_external_flow,
        count(*) as transactions
    from {{ ref('int_session_transactions') }}
    group by portfolio, session_date, currency
),

keys as (
    select portfolio, session_date, currency from holdings
    union
    select portfolio, session_date, currency from flows
),

days as (
    select
        keys.portfolio,
        keys.session_date,
        keys.currency,
        sessions.previous_session_date,
        cast(coalesce(holdings.market_value, 0) as decimal(28, 8)) as market_value,
        cast(coalesce(holdings.cash, 0) as decimal(28, 8)) as cash,
        cast(coalesce(holdings.market_value, 0) + coalesce(holdings.cash, 0) as decimal(28, 8))
            as equity,
        cast(coalesce(holdings.long_exposure, 0) as decimal(28, 8)) as long_exposure,
        cast(coalesce(holdings.short_exposure, 0) as decimal(28, 8)) as short_exposure,
        cast(coalesce(holdings.unrealised_pnl, 0) as decimal(28, 8)) as unrealised_pnl,
        case
            when sessions.previous_session_date is not null
                and realised.portfolio is null then cast(0 as decimal(28, 8))
            else cast(realised.realised_pnl as decimal(28, 8))
        end as realised_pnl,
        cast(coalesce(flows.dividends, 0) as decimal(28, 8)) as dividends,
        cast(coalesce(flows.fees, 0) as decimal(28, 8)) as fees,
        cast(coalesce(flows.net_external_flow, 0) as decimal(28, 8)) as net_external_flow,
        coalesce(holdings.positions, 0) as positions,
        coalesce(holdings.unpriced_positions, 0) as unpriced_positions,
        coalesce(holdings.stale_positions, 0) as stale_positions,
        coalesce(flows.transactions, 0) as transactions
    from keys
    inner join sessions
        on keys.portfolio = sessions.portfolio and keys.session_date = sessions.session_date
    left join holdings
        on keys.portfolio = holdings.portfolio
        and keys.session_date = holdings.session_date
        and keys.currency = holdings.currency
    left join realised
        on keys.portfolio = realised.portfolio
        and keys.session_date = realised.session_date
        and keys.currency = realised.currency
    left join flows
        on keys.portfolio = flows.portfolio
        and keys.session_date = flows.session_date
        and keys.currency = flows.currency
),

changes as (
    select
        days.*,
        case
            when days.previous_session_date is null then null
            else coalesce(before.equity, 0)
        end as previous_equity,
        coalesce(before.unrealised_pnl, 0) as previous_unrealised_pnl,
        days.unpriced_positions + coalesce(before.unpriced_positions, 0) = 0 as is_priced
    from days
    left join days as before
        on days.portfolio = before.portfolio
        and days.currency = before.currency
        and days.previous_session_date = before.session_date
),

results as (
    select
        changes.*,
        case when is_priced then equity - previous_equity - net_external_flow end as total_pnl
    from changes
)

select
    cast(portfolio as varchar) as portfolio,
    cast(session_date as date) as session_date,
    cast(currency as varchar) as currency,
    cast(previous_session_date as date) as previous_session_date,
    cast(market_value as decimal(28, 8)) as market_value,
    cast(cash as decimal(28, 8)) as cash,
    cast(equity as decimal(28, 8)) as equity,
    cast(long_exposure + short_exposure as decimal(28, 8)) as gross_exposure,
    cast(long_exposure - short_exposure as decimal(28, 8)) as net_exposure,
    cast(long_exposure as decimal(28, 8)) as long_exposure,
    cast(short_exposure as decimal(28, 8)) as short_exposure,
    cast(unrealised_pnl as decimal(28, 8)) as unrealised_pnl,
    cast(realised_pnl as decimal(28, 8)) as realised_pnl,
    cast(dividends as decimal(28, 8)) as dividends,
    cast(fees as decimal(28, 8)) as fees,
    cast(net_external_flow as decimal(28, 8)) as net_external_flow,
    cast(total_pnl as decimal(28, 8)) as total_pnl,
    cast(
        total_pnl
        - (realised_pnl + unrealised_pnl - previous_unrealised_pnl + dividends - fees)
        as decimal(28, 8)
    ) as unexplained_pnl,
    cast(
        case when previous_equity > 0 then round({{ ratio('total_pnl', 'previous_equity') }}, 10) end
        as double
    ) as day_return,
    cast(positions as bigint) as positions,
    cast(unpriced_positions as bigint) as unpriced_positions,
    cast(stale_positions as bigint) as stale_positions,
    cast(transactions as bigint) as transactions
from results
