{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- Trades per venue and UTC hour. Grain: venue, event_day, hour; hours without trades have none. -#}
select
    cast(venue as varchar) as venue,
    cast(event_day as date) as event_day,
    cast(hour(ts_event) as integer) as hour,
    cast(count(*) as bigint) as trades,
    cast(count(distinct symbol) as bigint) as symbols,
    cast(min(ts_event_ns) as bigint) as first_trade_ns,
    cast(max(ts_event_ns) as bigint) as last_trade_ns
from {{ ref('int_enriched_trades') }}
where {{ in_days('event_day') }}
group by venue, event_day, hour(ts_event)
