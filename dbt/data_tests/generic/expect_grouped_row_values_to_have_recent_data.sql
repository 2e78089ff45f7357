{#- As expect_row_values_to_have_recent_data, for each group that has a row.
    Fails with: the group, max_timestamp, checked_at. -#}
{% test expect_grouped_row_values_to_have_recent_data(
    model, group_by, timestamp_column, datepart, interval, row_condition=none
) %}
with newest as (
    select
        {% for column in group_by %}{{ column }}, {% endfor -%}
        max({{ micros(timestamp_column) }}) as max_timestamp,
        {{ time_of_test() }} as checked_at
    from {{ model }}
    where {{ micros(timestamp_column) }} <= {{ time_of_test() }}
    {%- if row_condition %} and ({{ row_condition }}){% endif %}
    {%- if group_by %} group by {{ group_by | join(', ') }}{% endif %}
)

select *
from newest
where max_timestamp is null
   or max_timestamp < {{ dbt.dateadd(datepart, -interval, 'checked_at') }}
{% endtest %}
