{#- One row per title and UTC day: its first copy of the day, and how many copies there were. Only
    distinct titles are compared with each other. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days() }}', partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
select
    stories.event_day,
    stories.title_key,
    min(stories.plain_title) as plain_title,
    min_by(stories.story_key, {{ copy_order('stories') }}) as story_key,
    min_by(stories.first_seen_ns, {{ copy_order('stories') }}) as first_seen_ns,
    min(stories.ts_published_ns) as ts_published_ns,
    count(*) as copies
from {{ ref('stg_news__stories') }} as stories
where {{ in_days('stories.event_day') }}
group by stories.event_day, stories.title_key
