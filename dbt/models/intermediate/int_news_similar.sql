{#- Pairs of titles that share at least half of their tokens (Jaccard: common / all), the other one
    seen on the same UTC day or the two days before. Exact for 0.5 and above, and not quadratic: in
    any common order of tokens, two such titles share one of the first n - ceil(n / 2) + 1 of each
    (prefix filter: Chaudhuri, Ganti, Kaushik 2006), and behind the first shared one must be enough
    for 3 common >= the sum of their sizes (positional filter: Xiao et al. 2008). The order is rarest
    first, so few titles meet: of ten tokens the four rarest decide. It sets the cost, never the
    result. -#}
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

-- numbers instead of texts from here on; the rarest token has the smallest
token_numbers as (
    select token, row_number() over (order by titles, token) as token_no
    from (select token, count(*) as titles from tokens group by token) as frequencies
),

title_numbers as (
    select title_key, size, row_number() over (order by title_key) as title_no from sizes
),

ranked as (
    select
        title_numbers.title_no,
        title_numbers.size,
        token_numbers.token_no,
        row_number() over (
            partition by title_numbers.title_no order by token_numbers.token_no
        ) as rarity
    from tokens
    inner join token_numbers on tokens.token = token_numbers.token
    inner join title_numbers on tokens.title_key = title_numbers.title_key
),

token_sets as (
    select title_no, size, array_agg(token_no order by token_no) as token_nos from ranked group by title_no, size
),

prefixes as (
    select title_no, token_no, size, rarity
    from ranked
    where rarity <= size - cast(ceil(size * 0.5e0) as bigint) + 1
),

days as (
    select titles.event_day, title_numbers.title_no
    from {{ ref('int_news_titles') }} as titles
    inner join title_numbers on titles.title_key = title_numbers.title_key
    where {{ in_days_seen('titles.event_day') }}
),

back as (
    {% for back in range(news_days_back() + 1) -%}
    select {{ back }} as days_back{% if not loop.last %} union all {% endif %}
    {%- endfor %}
),

asking as (
    select
        days.event_day,
        cast({{ dbt.dateadd('day', '-back.days_back', 'days.event_day') }} as date) as seen_day,
        prefixes.title_no,
        prefixes.token_no,
        prefixes.size,
        prefixes.rarity
    from days
    inner join prefixes on days.title_no = prefixes.title_no
    cross join back
    where {{ in_days_reached('days.event_day') }}
),

answering as (
    select
        days.event_day as seen_day,
        prefixes.title_no,
        prefixes.token_no,
        prefixes.size,
        prefixes.rarity
    from days
    inner join prefixes on days.title_no = prefixes.title_no
),

met as (
    select distinct asking.event_day, asking.title_no, answering.title_no as other_no
    from asking
    inner join answering
        on asking.token_no = answering.token_no
        and asking.seen_day = answering.seen_day
        and asking.title_no <> answering.title_no
        -- if this is their first common token, so many can still be common
        and 3 * (1 + {{ smaller('asking.size - asking.rarity', 'answering.size - answering.rarity') }})
            >= asking.size + answering.size
),

pairs as (
    select distinct {{ smaller('title_no', 'other_no') }} as one_no, {{ larger('title_no', 'other_no') }} as two_no
    from met
),

shared as (
    select
        pairs.one_no,
        pairs.two_no,
        ones.size + twos.size as sizes,
        {{ common_items('ones.token_nos', 'twos.token_nos') }} as common
    from pairs
    inner join token_sets as ones on pairs.one_no = ones.title_no
    inner join token_sets as twos on pairs.two_no = twos.title_no
),

alike as (
    select one_no, two_no, common, sizes - common as united
    from shared
    where 3 * common >= sizes
)

select
    met.event_day,
    mine.title_key,
    theirs.title_key as other_key,
    cast(alike.common as bigint) as common_tokens,
    cast(alike.united as bigint) as all_tokens
from met
inner join alike
    on {{ smaller('met.title_no', 'met.other_no') }} = alike.one_no
    and {{ larger('met.title_no', 'met.other_no') }} = alike.two_no
inner join title_numbers as mine on met.title_no = mine.title_no
inner join title_numbers as theirs on met.other_no = theirs.title_no
