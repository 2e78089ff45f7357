{#- News about one symbol on one UTC day. A story that several outlets repeat is one confirmation: a
    group counts once, for the outlet (publisher, else source) of its first copy of the day. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days_reached() }}', partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
with named as (
    select
        split_items.item as symbol,
        stories.event_day,
        stories.story_key,
        stories.story_group,
        stories.novelty,
        stories.ts_published_ns,
        stories.first_seen_ns,
        coalesce(stories.publisher, stories.source) as outlet
    from {{ ref('fct_stories') }} as stories
    {{ unnest_split('stories.symbols', ',') }}
    where {{ in_days_reached('stories.event_day') }}
      and split_items.item <> ''
),

grouped as (
    select
        symbol,
        event_day,
        story_group,
        count(distinct story_key) as stories,
        sum(novelty) as novelty,
        min_by(outlet, {{ copy_order('named') }}) as first_outlet
    from (select distinct * from named) as named
    group by symbol, event_day, story_group
)

select
    cast(symbol as varchar) as symbol,
    cast(sum(stories) as bigint) as stories,
    cast(count(*) as bigint) as groups,
    cast(count(distinct first_outlet) as bigint) as sources,
    cast(round({{ ratio('sum(novelty)', 'sum(stories)') }}, 6) as double) as mean_novelty,
    cast(event_day as date) as event_day
from grouped
group by symbol, event_day
