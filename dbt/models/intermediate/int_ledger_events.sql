{#- What commits said of slices: one row per (feed, commit, event, slice), appended for ever. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_commits() }}') }}
select
    cast(feed as varchar) as feed,
    cast(commit as bigint) as commit,
    cast(event as varchar) as event,
    cast(slice_id as varchar) as slice_id,
    cast(shard as varchar) as shard,
    cast(records as bigint) as records,
    cast(messages as bigint) as messages,
    cast(silver_rows as bigint) as silver_rows,
    cast(duplicates as bigint) as duplicates,
    cast(ignored as bigint) as ignored,
    cast(rejected as bigint) as rejected,
    cast(payload_bytes as bigint) as payload_bytes,
    cast(objects as bigint) as objects,
    cast(stored_bytes as bigint) as stored_bytes,
    {{ micros('arrived_from') }} as arrived_from,
    {{ micros('arrived_to') }} as arrived_to,
    {{ micros('event_from') }} as event_from,
    {{ micros('event_to') }} as event_to,
    {{ micros('committed_at') }} as committed_at
from {{ source('ledger', 'events') }}
