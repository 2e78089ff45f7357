{#- One row per ledger entry, appended for ever. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_commits() }}') }}
select
    cast(feed as varchar) as feed,
    cast(commit as bigint) as commit,
    cast(kind as varchar) as kind,
    {{ micros('committed_at') }} as committed_at,
    cast(slices as bigint) as slices,
    cast(records as bigint) as records,
    cast(messages as bigint) as messages,
    cast(silver_rows as bigint) as silver_rows,
    cast(duplicates as bigint) as duplicates,
    cast(ignored as bigint) as ignored,
    cast(rejected as bigint) as rejected,
    cast(gaps as bigint) as gaps,
    cast(redriven as bigint) as redriven,
    cast(files_removed as bigint) as files_removed
from {{ source('ledger', 'commits') }}
