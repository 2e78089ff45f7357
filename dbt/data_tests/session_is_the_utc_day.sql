{#- Sessions are computed by UTC day, which holds for venues that never close. Fails with: trades of a
    venue whose session is another day; fct_session_vwap must then be computed by session. -#}
select venue, session_date, event_day, count(*) as trades, min(symbol) as symbol
from {{ ref('int_enriched_trades') }}
where session_date <> event_day and {{ in_days('event_day') }}
group by venue, session_date, event_day
