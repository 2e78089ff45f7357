{#- What portfolios hold: one row per portfolio, symbol and session_date, its latest known version.
    Versions: the last known_at_ns wins, then the later as_of; the rest only orders equals.
    Personal columns stay behind. -#}
with versions as (
    select
        portfolio, symbol, currency, session_date, quantity, average_cost, known_at_ns, ts_event_ns,
        row_number() over (
            partition by portfolio, symbol, session_date
            order by
                known_at_ns desc, ts_event_ns desc, quantity desc,
                average_cost desc nulls last, currency
        ) as version
    from {{ source('silver', 'positions') }}
)
select
    cast(portfolio as varchar) as portfolio,
    cast(symbol as varchar) as symbol,
    cast(currency as varchar) as currency,
    cast(session_date as date) as session_date,
    symbol = currency as is_cash,
    cast(quantity as decimal(18, 8)) as quantity,
    cast(average_cost as decimal(18, 8)) as average_cost,
    cast(known_at_ns as bigint) as known_at_ns
from versions
where version = 1
