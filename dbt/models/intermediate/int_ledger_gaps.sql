{#- Ranges of records that the source no longer held: one row per gap. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_commits() }}') }}
select
    cast(feed as varchar) as feed,
    cast(commit as bigint) as commit,
    cast(shard as varchar) as shard,
    cast(after as varchar) as after,
    cast(first_kept as varchar) as first_kept,
    cast(reason as varchar) as reason
from {{ source('ledger', 'gaps') }}
