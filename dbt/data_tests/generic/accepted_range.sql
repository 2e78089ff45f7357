{#- dbt_utils: values are within bounds; nulls pass. Fails with: the rows. -#}
{% test accepted_range(model, column_name, min_value=none, max_value=none, inclusive=true) %}
{{ rows_that_break(model, is_between(column_name, min_value, max_value, not inclusive)) }}
{% endtest %}
