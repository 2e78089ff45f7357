{{ config(materialized='view', contract={'enforced': false}) }}
{#- The trades that stand, over all of Silver: what `headrace query` calls trades_current, too. -#}
select
    venue, symbol, trade_id, kind, side, price, size, ts_event_ns, ts_event, known_at_ns,
    session_date, event_day, slice_id
from {{ ref('stg_trades__trades') }}
