{#- Ordered by `sort_column` (within `group_by`), each value is greater than the one before, or not
    smaller if not `strictly`; `step`: by exactly so much. Fails with: the rows, previous_value. -#}
{% test expect_column_values_to_be_increasing(
    model, column_name, sort_column=none, strictly=true, row_condition=none, group_by=none, step=none
) %}
with ordered as (
    select
        rows_in_order.*,
        lag({{ column_name }}) over (
            {% if group_by %}partition by {{ group_by | join(', ') }} {% endif -%}
            order by {{ sort_column or column_name }}
        ) as previous_value
    from {{ model }} as rows_in_order
    {%- if row_condition %} where {{ row_condition }}{% endif %}
)

select *
from ordered
where previous_value is not null
  and not (
    {{ column_name }} >{{ '' if strictly else '=' }} previous_value
    {%- if step is not none %} and {{ column_name }} - previous_value = {{ step }}{% endif %}
  )
{% endtest %}
