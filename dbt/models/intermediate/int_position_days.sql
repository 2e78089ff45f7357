{#- Holdings at the close of each day, valued. Grain: portfolio, symbol, currency, session_date; what
    was held the session before has a row, too, with quantity 0 if it is gone.
    Price: the preferred source's last close at or before the day, at most price_max_age_days old,
    taken to be in the position's currency; cash is worth 1. Value = quantity x price,
    cost = quantity x average cost (both negative if short), unrealised P&L = value - cost. -#}
with sessions as (
    select portfolio, session_date, previous_session_date
    from {{ ref('int_portfolio_sessions') }}
),

held as (
    select portfolio, symbol, currency, session_date, quantity, average_cost
    from {{ ref('stg_positions__positions') }}
),

{#- Days to price, and bars, in one order: the latest bar so far is a running maximum. -#}
closes as (
    select symbol, session_date, close
    from {{ ref('stg_prices_daily__bars') }}
    where is_preferred and symbol in (select symbol from held)
),

timeline as (
    select distinct symbol, session_date, cast(null as date) as price_date
    from held
    where symbol <> currency
    union all
    select symbol, session_date, session_date as price_date
    from closes
),

priced_days as (
    select distinct symbol, session_date, latest_date
    from (
        select
            symbol, session_date, price_date,
            max(price_date) over (
                partition by symbol order by session_date
                range between unbounded preceding and current row
            ) as latest_date
        from timeline
    ) as running
    where price_date is null
),

valued as (
    select
        held.portfolio, held.symbol, held.currency, held.session_date, held.quantity,
        held.average_cost,
        held.symbol = held.currency as is_cash,
        case when held.symbol = held.currency then held.session_date else closes.session_date end
            as price_date,
        case when held.symbol = held.currency then cast(1 as decimal(18, 8)) else closes.close end
            as price
    from held
    left join priced_days
        on held.symbol = priced_days.symbol
        and held.session_date = priced_days.session_date
        and date_diff('day', priced_days.latest_date, priced_days.session_date)
            <= {{ var('price_max_age_days') }}
    left join closes
        on priced_days.symbol = closes.symbol
        and priced_days.latest_date = closes.session_date
),

amounts as (
    select
        valued.*,
        {{ notional('quantity', 'price') }} as market_value,
        {{ notional('quantity', 'case when is_cash then price else average_cost end') }} as cost
    from valued
),

keys as (
    select portfolio, symbol, currency, session_date from held
    union
    select held.portfolio, held.symbol, held.currency, sessions.session_date
    from held
    inner join sessions
        on held.portfolio = sessions.portfolio
        and held.session_date = sessions.previous_session_date
    where held.quantity <> 0
)

select
    keys.portfolio,
    keys.symbol,
    keys.currency,
    keys.session_date,
    sessions.previous_session_date,
    keys.symbol = keys.currency as is_cash,
    cast(coalesce(today.quantity, 0) as decimal(18, 8)) as quantity,
    cast(today.average_cost as decimal(18, 8)) as average_cost,
    cast(today.price as decimal(18, 8)) as price,
    today.price_date,
    cast(date_diff('day', today.price_date, keys.session_date) as bigint) as price_age_days,
    coalesce(today.price_date < keys.session_date, false) as is_stale,
    coalesce(today.quantity <> 0 and today.price is null, false) as is_unpriced,
    {{ worth('today', 'market_value') }} as market_value,
    {{ worth('today', 'cost') }} as cost,
    cast({{ worth('today', 'market_value') }} - {{ worth('today', 'cost') }} as decimal(28, 8))
        as unrealised_pnl,
    cast(coalesce(before.quantity, 0) as decimal(18, 8)) as previous_quantity,
    cast(before.average_cost as decimal(18, 8)) as previous_average_cost,
    {{ worth('before', 'market_value') }} as previous_market_value,
    cast({{ worth('before', 'market_value') }} - {{ worth('before', 'cost') }} as decimal(28, 8))
        as previous_unrealised_pnl
from keys
inner join sessions
    on keys.portfolio = sessions.portfolio and keys.session_date = sessions.session_date
left join amounts as today
    on keys.portfolio = today.portfolio and keys.symbol = today.symbol
    and keys.currency = today.currency and keys.session_date = today.session_date
left join amounts as before
    on keys.portfolio = before.portfolio and keys.symbol = before.symbol
    and keys.currency = before.currency and sessions.previous_session_date = before.session_date
