{#- News as sources delivered it: one row per copy (source, story id and set of symbols) and UTC day.
    Rows that came late may repeat an earlier one: the first to arrive stays. `title_key` is the
    same for titles that differ only in case, punctuation and spaces. -#}
with numbered as (
    select
        news.*,
        cast(news.ts_event as date) as event_day,
        {{ plain_title('news.title') }} as plain_title,
        row_number() over (
            partition by
                cast(news.ts_event as date), news.source, news.story_id, news.symbols
            order by
                news.ts_arrival_ns, news.ts_published_ns, news.shard,
                length(news.sequence_number), news.sequence_number, news.line_no
        ) as arrival_no
    from {{ source('silver', 'news') }} as news
)

select
    source || '|' || story_id || '|' || symbols as story_key,
    cast(source as varchar) as source,
    cast(story_id as varchar) as story_id,
    cast(symbols as varchar) as symbols,
    cast(title as varchar) as title,
    {{ md5_of("case when plain_title = '' then lower(title) else plain_title end") }} as title_key,
    plain_title,
    cast(publisher as varchar) as publisher,
    cast(url as varchar) as url,
    cast(language as varchar) as language,
    {{ micros('ts_event') }} as ts_published,
    cast(ts_published_ns as bigint) as ts_published_ns,
    cast(ts_arrival_ns as bigint) as first_seen_ns,
    event_day
from numbered
where arrival_no = 1
