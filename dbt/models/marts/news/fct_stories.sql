{#- One row per copy of a story and UTC day, with the story that it repeats. Only titles are compared.
    Similarity: token Jaccard, looked for from 0.5 on (below: 0), over earlier copies of the same UTC
    day and the two days before. Group: the earliest of these with >= 0.8, a direct link and no
    chain: a near copy of a near copy need not be one. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days_reached() }}', partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
with titles as (
    select event_day, title_key, story_key, first_seen_ns, ts_published_ns
    from {{ ref('int_news_titles') }}
    where {{ in_days_seen('event_day') }}
),

wanted as (
    select * from titles where {{ in_days_reached('event_day') }}
),

neighbours as (
    select event_day, title_key, other_key, common_tokens, all_tokens
    from {{ ref('int_news_similar') }}
    where {{ in_days_reached('event_day') }}
    union all
    select event_day, title_key, title_key as other_key, 1 as common_tokens, 1 as all_tokens
    from wanted
),

back as (
    {% for back in range(news_days_back() + 1) -%}
    select {{ back }} as days_back{% if not loop.last %} union all {% endif %}
    {%- endfor %}
),

looked_at as (
    select
        neighbours.*,
        cast({{ dbt.dateadd('day', '-back.days_back', 'neighbours.event_day') }} as date) as seen_day
    from neighbours
    cross join back
),

of_a_day as (
    select
        wanted.event_day,
        wanted.title_key,
        min(wanted.story_key) as first_key,
        max(
            case
                when {{ copy_order('others') }} < {{ copy_order('wanted') }}
                then {{ ratio('looked_at.common_tokens', 'looked_at.all_tokens') }}
            end
        ) as similarity,
        min_by(
            others.story_key,
            case
                when 5 * looked_at.common_tokens >= 4 * looked_at.all_tokens
                then {{ copy_order('others') }}
            end
        ) as story_group
    from wanted
    inner join looked_at
        on wanted.event_day = looked_at.event_day and wanted.title_key = looked_at.title_key
    inner join titles as others
        on looked_at.seen_day = others.event_day and looked_at.other_key = others.title_key
    group by wanted.event_day, wanted.title_key
),

copies as (
    select
        stories.*,
        of_a_day.story_group,
        -- a second copy of a day repeats the first
        case
            when stories.story_key = of_a_day.first_key then coalesce(of_a_day.similarity, 0e0)
            else 1e0
        end as similarity
    from {{ ref('stg_news__stories') }} as stories
    inner join of_a_day
        on stories.event_day = of_a_day.event_day and stories.title_key = of_a_day.title_key
    where {{ in_days_reached('stories.event_day') }}
)

select
    cast(copies.story_key as varchar) as story_key,
    cast(copies.source as varchar) as source,
    cast(copies.story_id as varchar) as story_id,
    cast(copies.symbols as varchar) as symbols,
    cast(copies.title as varchar) as title,
    cast(copies.publisher as varchar) as publisher,
    {{ micros('copies.ts_published') }} as ts_published,
    cast(copies.ts_published_ns as bigint) as ts_published_ns,
    cast(copies.first_seen_ns as bigint) as first_seen_ns,
    cast(copies.story_group as varchar) as story_group,
    cast(round(1e0 - copies.similarity, 6) as double) as novelty,
    cast(
        row_number() over (
            partition by copies.event_day, copies.story_group
            order by copies.ts_published_ns, copies.first_seen_ns, copies.story_key
        ) as bigint
    ) as copies_so_far,
    copies.similarity < 0.8e0 as is_novel,
    cast(copies.event_day as date) as event_day
from copies
