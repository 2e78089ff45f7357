{#- One row per title, UTC day and distinct token: a run of letters or digits, lower case, of at least
    3 characters. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days() }}', partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
select distinct
    titles.event_day,
    titles.title_key,
    split_items.item as token
from {{ ref('int_news_titles') }} as titles
{{ unnest_split('titles.plain_title', ' ') }}
where {{ in_days('titles.event_day') }}
  and length(split_items.item) >= 3
