{#- Rejected messages per commit, slice and reason, as each commit counted them. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_commits() }}') }}
select
    cast(feed as varchar) as feed,
    cast(commit as bigint) as commit,
    cast(slice_id as varchar) as slice_id,
    {{ micros('arrived_from') }} as arrived_from,
    cast(reason as varchar) as reason,
    cast(messages as bigint) as messages
from {{ source('ledger', 'rejects') }}
