{#- Our own, in neither package: whole numbers, of all rows or of each group, follow each other
    without holes; equal numbers are no hole (uniqueness is another question).
    Fails with: the group, the numbers around each hole, how many are missing. -#}
{% test expect_sequence_without_gaps(model, column_name, group_by=none, row_condition=none, step=1) %}
with followed as (
    select
        {% for column in group_by or [] %}{{ column }}, {% endfor -%}
        {{ column_name }} as last_before,
        lead({{ column_name }}) over (
            {% if group_by %}partition by {{ group_by | join(', ') }} {% endif -%}
            order by {{ column_name }}
        ) as first_after
    from {{ model }}
    where {{ column_name }} is not null
    {%- if row_condition %} and ({{ row_condition }}){% endif %}
)

select
    {% for column in group_by or [] %}{{ column }}, {% endfor -%}
    last_before,
    first_after,
    {{ ratio('first_after - last_before', step) }} - 1 as missing
from followed
where first_after - last_before > {{ step }}
{% endtest %}
