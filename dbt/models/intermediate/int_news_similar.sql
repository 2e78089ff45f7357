{#- Pairs of titles that share at least half of their tokens (Jaccard: common / all), the other one
    seen on the same UTC day or the two days before. Exact for 0.5 and above, and not quadratic:
    two sets with Jaccard >= t share a token among the first n - ceil(t n) + 1 of each in any common
    order (prefix filter: Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007). The order is
    rarest first, so few titles meet; it decides the cost, never the result. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days_reached() }}', partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
with tokens as (
    select distinct title_key, token
    from {{ ref('int_news_tokens') }}
    where {{ in_days_seen('event_day') }}
),

sizes as (
    select title_key, count(*) as size from tokens group by title_key
),

frequencies as (
    select token, count(*) as titles from tokens group by token
),

ranked as (
    select
        tokens.title_key,
        tokens.token,
        sizes.size,
        row_number() over (
            partition by tokens.title_key order by frequencies.titles, tokens.token
        ) as rarity
    from tokens
    inner join frequencies on tokens.token = frequencies.token
    inner join sizes on tokens.title_key = sizes.title_key
),

prefixes as (
    select title_key, token, size
    from ranked
    where rarity <= size - cast(ceil(size * 0.5e0) as bigint) + 1
),

days as (
    select event_day, title_key
    from {{ ref('int_news_titles') }}
    where {{ in_days_seen('event_day') }}
),

back as (
    {% for back in range(news_days_back() + 1) -%}
    select {{ back }} as days_back{% if not loop.last %} union all {% endif %}
    {%- endfor %}
),

asking as (
    select
        days.event_day,
        days.title_key,
        prefixes.token,
        prefixes.size,
        cast({{ dbt.dateadd('day', '-back.days_back', 'days.event_day') }} as date) as seen_day
    from days
    inner join prefixes on days.title_key = prefixes.title_key
    cross join back
    where {{ in_days_reached('days.event_day') }}
),

answering as (
    select days.event_day as seen_day, days.title_key, prefixes.token, prefixes.size
    from days
    inner join prefixes on days.title_key = prefixes.title_key
),

met as (
    select distinct
        asking.event_day,
        asking.title_key,
        answering.title_key as other_key,
        asking.size,
        answering.size as other_size
    from asking
    inner join answering
        on asking.token = answering.token
        and asking.seen_day = answering.seen_day
        and asking.title_key <> answering.title_key
        and 2 * asking.size >= answering.size
        and 2 * answering.size >= asking.size
),

pairs as (
    select distinct title_key, other_key, size, other_size from met
),

shared as (
    select pairs.title_key, pairs.other_key, pairs.size, pairs.other_size, count(*) as common
    from pairs
    inner join tokens as mine on pairs.title_key = mine.title_key
    inner join tokens as theirs on pairs.other_key = theirs.title_key and mine.token = theirs.token
    group by pairs.title_key, pairs.other_key, pairs.size, pairs.other_size
)

select
    met.event_day,
    met.title_key,
    met.other_key,
    cast(shared.common as bigint) as common_tokens,
    cast(shared.size + shared.other_size - shared.common as bigint) as all_tokens
from met
inner join shared on met.title_key = shared.title_key and met.other_key = shared.other_key
where 2 * shared.common >= shared.size + shared.other_size - shared.common
