{#- Rows of the table, or of each group, are within bounds. An empty table has no groups.
    Fails with: the group, its row_count. -#}
{% test expect_table_row_count_to_be_between(
    model, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false
) %}
select {% if group_by %}{{ group_by | join(', ') }}, {% endif %}count(*) as row_count
from {{ model }}
{%- if row_condition %} where {{ row_condition }}{% endif %}
{%- if group_by %} group by {{ group_by | join(', ') }}{% endif %}
having not ({{ is_between('count(*)', min_value, max_value, strictly) }})
{% endtest %}
