{#- P&L that a session's trades realised. Grain: portfolio, session_date, symbol, currency.
    Daily average cost, whatever the order of the day's trades (q, c: opening units and their cost):
    long:  average = (q c + buys' notional) / (q + bought),  realised = closed x (sell VWAP - average)
    short: average = (-q c + sells' notional) / (-q + sold), realised = closed x (average - buy VWAP)
    closed = what was sold (bought back), but no more than there was: the rest opens the other side.
    Fees are not in it. Null if the opening is unknown: the books' first session, or no cost. -#}
with trades as (
    select
        portfolio, session_date, previous_session_date, symbol, currency,
        sum(case when kind = 'buy' then quantity else 0 end) as bought,
        sum(case when kind = 'sell' then quantity else 0 end) as sold,
        sum(case when kind = 'buy' then {{ notional('quantity', 'price') }} else 0 end)
            as buy_notional,
        sum(case when kind = 'sell' then {{ notional('quantity', 'price') }} else 0 end)
            as sell_notional
    from {{ ref('int_session_transactions') }}
    where kind in ('buy', 'sell')
    group by portfolio, session_date, previous_session_date, symbol, currency
),

opened as (
    select
        trades.*,
        coalesce(positions.previous_quantity, 0) as opening_quantity,
        case
            when trades.previous_session_date is null then null
            when coalesce(positions.previous_quantity, 0) = 0 then 0
            else positions.previous_average_cost
        end as opening_cost
    from trades
    left join {{ ref('int_position_days') }} as positions
        on trades.portfolio = positions.portfolio
        and trades.session_date = positions.session_date
        and trades.symbol = positions.symbol
        and trades.currency = positions.currency
),

{#- Both sides in the terms of a long one: a short is opened by sales and closed by purchases. -#}
sides as (
    select
        opened.*,
        case when opening_quantity < 0 then -1 else 1 end as side,
        abs(opening_quantity) + case when opening_quantity < 0 then sold else bought end
            as available,
        cast(abs(opening_quantity) as double) * cast(opening_cost as double)
            + cast(case when opening_quantity < 0 then sell_notional else buy_notional end as double)
            as opened_notional,
        case when opening_quantity < 0 then bought else sold end as wanted,
        case when opening_quantity < 0 then buy_notional else sell_notional end as closing_notional
    from opened
),

closings as (
    select
        sides.*,
        case when wanted < available then wanted else available end as closed
    from sides
)

select
    portfolio,
    session_date,
    symbol,
    currency,
    cast(opening_quantity as decimal(18, 8)) as opening_quantity,
    cast(opening_cost as decimal(18, 8)) as opening_average_cost,
    cast(bought as decimal(28, 8)) as bought_quantity,
    cast(buy_notional as decimal(28, 8)) as buy_notional,
    cast(sold as decimal(28, 8)) as sold_quantity,
    cast(sell_notional as decimal(28, 8)) as sell_notional,
    case when opening_cost is not null then cast(closed as decimal(28, 8)) end as closed_quantity,
    case
        when previous_session_date is null then null
        when closed = 0 then cast(0 as decimal(28, 8))
        else cast(
            round(
                side * cast(closed as double) * (
                    {{ ratio('closing_notional', 'wanted') }}
                    - {{ ratio('opened_notional', 'available') }}
                ), 6
            ) as decimal(28, 8)
        )
    end as realised_pnl
from closings
