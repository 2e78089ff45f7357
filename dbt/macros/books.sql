{#- An amount of a holding: null if it is unknown, 0 if nothing is held. -#}
{% macro worth(relation, amount) -%}
  cast(case when coalesce({{ relation }}.quantity, 0) = 0 then 0 else {{ relation }}.{{ amount }} end as decimal(28, 8))
{%- endmacro %}

{#- Quantity x price, rounded to 8 decimals. One operand is wider than decimal(18, 8) on purpose: of
    two of those DuckDB makes a decimal(18, 16), which overflows at once; of these both engines
    make a decimal(38, 16). -#}
{% macro notional(quantity, price) -%}
  cast(cast({{ quantity }} as decimal(20, 8)) * cast({{ price }} as decimal(18, 8)) as decimal(28, 8))
{%- endmacro %}
