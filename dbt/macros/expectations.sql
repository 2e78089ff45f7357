{#- What the generic tests in data_tests/generic share. -#}

{#- All rows of a model for which a condition is false. A condition that is unknown because of a null
    is no failure: whether nulls are allowed is asked by not_null. -#}
{% macro rows_that_break(model, condition, row_condition=none) -%}
select *
from {{ model }}
where not ({{ condition }})
{%- if row_condition %} and ({{ row_condition }}){% endif %}
{%- endmacro %}

{#- `expression` within bounds; `strictly`: the bounds themselves are outside. -#}
{% macro is_between(expression, min_value=none, max_value=none, strictly=false) -%}
{%- if min_value is none and max_value is none -%}
  {{ exceptions.raise_compiler_error("give min_value, max_value or both") }}
{%- endif -%}
{%- set equal = '' if strictly else '=' -%}
true
{%- if min_value is not none %} and {{ expression }} >{{ equal }} {{ min_value }}{% endif %}
{%- if max_value is not none %} and {{ expression }} <{{ equal }} {{ max_value }}{% endif %}
{%- endmacro %}

{#- The time that "recent" is measured from: the var `now` (UTC, "2026-11-24 16:00:00"), else the
    clock. `headrace gold` may pass the time of its pins, so that a repeated run says the same. -#}
{% macro time_of_test() -%}
{%- if var('now', none) -%} timestamp '{{ var("now") }}' {%- else -%} {{ clock_utc() }} {%- endif -%}
{%- endmacro %}
