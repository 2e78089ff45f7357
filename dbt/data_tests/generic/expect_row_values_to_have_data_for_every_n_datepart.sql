{#- Every period of `interval` `date_part`s has a row, from `test_start_date` (else the first day
    with one) to before `test_end_date` (else the last day with one). `exclusion_condition` says
    which periods count ("extract(dow from date_day) < 6"). At most 100,000 periods.
    Fails with: date_<part>, the start of a period without rows. -#}
{% test expect_row_values_to_have_data_for_every_n_datepart(
    model, date_col, date_part='day', interval=none, row_condition=none, exclusion_condition=none,
    test_start_date=none, test_end_date=none
) %}
{%- set start = "cast('" ~ test_start_date ~ "' as date)" if test_start_date
    else 'first_day' -%}
{%- set end = "cast('" ~ test_end_date ~ "' as date)" if test_end_date
    else 'last_day' -%}
{%- set every = interval or 1 -%}
with wanted as (
    select cast({{ date_col }} as timestamp) as seen_at
    from {{ model }}
    {%- if row_condition %} where {{ row_condition }}{% endif %}
),

bounds as (
    select
        {{ dbt.date_trunc(date_part, 'cast(' ~ start ~ ' as timestamp)') }} as starts_at,
        cast({{ end }} as timestamp) as ends_at
    from (
        select min(cast(seen_at as date)) as first_day, max(cast(seen_at as date)) as last_day
        from wanted
    ) as days
),

digits as (
    {% for digit in range(10) -%}
    select {{ digit }} as digit{% if not loop.last %} union all {% endif %}
    {%- endfor %}
),

periods as (
    select
        ones.digit + 10 * tens.digit + 100 * hundreds.digit
            + 1000 * thousands.digit + 10000 * ten_thousands.digit as period
    from digits as ones
    cross join digits as tens
    cross join digits as hundreds
    cross join digits as thousands
    cross join digits as ten_thousands
),

spine as (
    select
        periods.period,
        {{ dbt.dateadd(date_part, 'cast(periods.period as integer) * ' ~ every, 'bounds.starts_at') }} as date_{{ date_part }}
    from periods
    cross join bounds
    where periods.period * {{ every }} < {{ dbt.datediff('bounds.starts_at', 'bounds.ends_at', date_part) }}
),

seen as (
    select distinct
        cast(floor(
            cast({{ dbt.datediff('bounds.starts_at', dbt.date_trunc(date_part, 'wanted.seen_at'), date_part) }} as double)
            / {{ every }}
        ) as integer) as period
    from wanted
    cross join bounds
    where wanted.seen_at >= bounds.starts_at
)

select spine.date_{{ date_part }}
from spine
left join seen on spine.period = seen.period
where seen.period is null
{%- if exclusion_condition %} and ({{ exclusion_condition }}){% endif %}
{% endtest %}
