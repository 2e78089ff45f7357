{#- dbt_utils: the share of values that are not null, of all rows or of each group, is within
    bounds. An empty table passes. Fails with: the group, row_count, null_count, the share. -#}
{% test not_null_proportion(model, column_name, at_least, at_most=1.0, group_by_columns=[]) %}
select
    {% if group_by_columns %}{{ group_by_columns | join(', ') }}, {% endif -%}
    count(*) as row_count,
    count(*) - count({{ column_name }}) as null_count,
    {{ ratio('count(' ~ column_name ~ ')', 'count(*)') }} as not_null_proportion
from {{ model }}
{%- if group_by_columns %} group by {{ group_by_columns | join(', ') }}{% endif %}
having {{ ratio('count(' ~ column_name ~ ')', 'count(*)') }} < {{ at_least }}
    or {{ ratio('count(' ~ column_name ~ ')', 'count(*)') }} > {{ at_most }}
{% endtest %}
