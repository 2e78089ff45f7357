{#- Transactions, each with the session that it counts to: its own day, or the portfolio's next day
    with positions. Grain: portfolio, transaction_id. Left out: those after the last session, until
    there is one, and those of days before the first, which its opening positions already hold. -#}
with sessions as (
    select portfolio, session_date, previous_session_date
    from {{ ref('int_portfolio_sessions') }}
),

transactions as (
    select
        portfolio, transaction_id, kind, symbol, currency, quantity, price, fee, event_day
    from {{ ref('stg_transactions__transactions') }}
),

{#- Days and sessions in one order: the next session is a running minimum from the end. -#}
timeline as (
    select distinct portfolio, event_day as day, cast(null as date) as session_date
    from transactions
    union all
    select portfolio, session_date as day, session_date
    from sessions
),

assigned_days as (
    select portfolio, day, next_session_date
    from (
        select
            portfolio, day, session_date,
            min(session_date) over (
                partition by portfolio order by day desc
                range between unbounded preceding and current row
            ) as next_session_date
        from timeline
    ) as running
    where session_date is null and next_session_date is not null
)

select
    transactions.portfolio,
    transactions.transaction_id,
    transactions.kind,
    transactions.symbol,
    transactions.currency,
    transactions.quantity,
    transactions.price,
    transactions.fee,
    transactions.event_day,
    sessions.session_date,
    sessions.previous_session_date
from transactions
inner join assigned_days
    on transactions.portfolio = assigned_days.portfolio
    and transactions.event_day = assigned_days.day
inner join sessions
    on assigned_days.portfolio = sessions.portfolio
    and assigned_days.next_session_date = sessions.session_date
where sessions.previous_session_date is not null
    or transactions.event_day = sessions.session_date
