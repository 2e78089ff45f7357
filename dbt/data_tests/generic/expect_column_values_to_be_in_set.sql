{#- Every value is in the set; a null is not. Fails with: the rows. `quote_values: false` for
    numbers and expressions. -#}
{% test expect_column_values_to_be_in_set(
    model, column_name, value_set, quote_values=true, row_condition=none
) %}
{%- set values = [] -%}
{%- for value in value_set -%}
  {%- do values.append("'" ~ (value | string | replace("'", "''")) ~ "'" if quote_values else value) -%}
{%- endfor -%}
{{ rows_that_break(
    model,
    column_name ~ ' is not null and ' ~ column_name ~ ' in (' ~ values | join(', ') ~ ')',
    row_condition,
) }}
{% endtest %}
