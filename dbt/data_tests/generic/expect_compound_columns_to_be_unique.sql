{#- No two rows agree in all the columns. `ignore_row_if`: all_values_are_missing,
    any_value_is_missing or never. Fails with: the columns, n_records. -#}
{% test expect_compound_columns_to_be_unique(
    model, column_list, quote_columns=false, ignore_row_if='all_values_are_missing', row_condition=none
) %}
{%- set columns = [] -%}
{%- for column in column_list -%}
  {%- do columns.append(adapter.quote(column) if quote_columns else column) -%}
{%- endfor -%}
{%- if ignore_row_if == 'all_values_are_missing' -%} {%- set joiner = ' or ' -%}
{%- elif ignore_row_if == 'any_value_is_missing' -%} {%- set joiner = ' and ' -%}
{%- elif ignore_row_if == 'never' -%} {%- set joiner = none -%}
{%- else -%}
  {{ exceptions.raise_compiler_error(
    "ignore_row_if is '" ~ ignore_row_if
    ~ "'; it must be all_values_are_missing, any_value_is_missing or never"
  ) }}
{%- endif -%}
select {{ columns | join(', ') }}, count(*) as n_records
from {{ model }}
where true
{%- if joiner %} and ({{ columns | join(' is not null' ~ joiner) }} is not null){% endif %}
{%- if row_condition %} and ({{ row_condition }}){% endif %}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
