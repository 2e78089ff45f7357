{#- Athena has no parameterised views: `trades_asof(t)` is a prepared statement of the workgroup there,
    `EXECUTE trades_asof USING 1764000000000000000` (ns since 1970). Locally it is a macro of
    `headrace query`, `FROM trades_asof(1764000000000000000)`, with the same rule. -#}
{% macro create_trades_asof() -%}
  {%- if target.type == 'athena' and execute -%}
    prepare trades_asof from {{ current_trades(known_by='?') }}
  {%- endif -%}
{%- endmacro %}
