{#- Every text holds a match (anchor it with ^ and $); nulls pass. Fails with: the rows. `is_raw` is
    accepted and changes nothing: neither dialect knows escapes in strings. -#}
{% test expect_column_values_to_match_regex(
    model, column_name, regex, row_condition=none, is_raw=false, flags=''
) %}
{%- set pattern = '(?' ~ flags ~ ')' ~ regex if flags else regex -%}
{{ rows_that_break(model, matches(column_name, pattern), row_condition) }}
{% endtest %}
