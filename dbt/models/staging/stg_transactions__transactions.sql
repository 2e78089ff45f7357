{#- What happened in portfolios: one row per portfolio and transaction, its latest known version.
    Versions: the last known_at_ns wins, then the later execution; the rest only orders equals.
    Personal columns stay behind. -#}
with versions as (
    select
        portfolio, transaction_id, kind, symbol, currency, quantity, price, fee, session_date,
        known_at_ns, ts_event_ns,
        row_number() over (
            partition by portfolio, transaction_id
            order by
                known_at_ns desc, ts_event_ns desc, kind, symbol nulls last, currency,
                quantity desc, price desc nulls last, fee desc
        ) as version
    from {{ source('silver', 'transactions') }}
)
select
    cast(portfolio as varchar) as portfolio,
    cast(transaction_id as varchar) as transaction_id,
    cast(kind as varchar) as kind,
    cast(symbol as varchar) as symbol,
    cast(currency as varchar) as currency,
    cast(quantity as decimal(18, 8)) as quantity,
    cast(price as decimal(18, 8)) as price,
    cast(fee as decimal(18, 8)) as fee,
    cast(session_date as date) as event_day,
    cast(ts_event_ns as bigint) as ts_event_ns,
    cast(known_at_ns as bigint) as known_at_ns
from versions
where version = 1
