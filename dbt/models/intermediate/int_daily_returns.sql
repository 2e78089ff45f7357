{#- Simple returns of the preferred close over consecutive sessions of a symbol. Grain: symbol,
    session_date. adj_close is used if both sessions have it (splits and dividends), else close.
    Both closes come from one source; over more than price_max_age_days there is no return. -#}
with bars as (
    select
        symbol, session_date, source, close, adj_close, is_preferred,
        lag(session_date) over (partition by source, symbol order by session_date)
            as previous_session_date,
        lag(close) over (partition by source, symbol order by session_date) as previous_close,
        lag(adj_close) over (partition by source, symbol order by session_date)
            as previous_adj_close
    from {{ ref('stg_prices_daily__bars') }}
)

select
    symbol,
    session_date,
    previous_session_date,
    source,
    adj_close is not null and previous_adj_close is not null as is_adjusted,
    cast(
        round(
            case
                when adj_close is not null and previous_adj_close is not null
                    then {{ ratio('adj_close', 'previous_adj_close') }}
                else {{ ratio('close', 'previous_close') }}
            end - 1, 12
        ) as double
    ) as simple_return
from bars
where is_preferred
    and date_diff('day', previous_session_date, session_date) <= {{ var('price_max_age_days') }}
