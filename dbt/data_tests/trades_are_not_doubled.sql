{#- Silver holds a trade's version once, of the days at hand. Rows that came later than the dedup looks
    back (is_late) may repeat; the current view leaves them out. Fails with: the key and how often. -#}
select
    venue, symbol, trade_id, kind, known_at_ns, count(*) as copies, min(ts_event) as ts_event,
    min(slice_id) as slice_id
from {{ source('silver', 'trades') }}
where not is_late and {{ in_days_ts('ts_event') }}
group by venue, symbol, trade_id, kind, known_at_ns
having count(*) > 1
