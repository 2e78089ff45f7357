{#- Athena has no parameterised views: `trades_asof(t)` is a prepared statement of the workgroup there,
    `EXECUTE trades_asof USING 1764000000000000000` (ns since 1970). Locally it is a macro of
    `headrace query`, `FROM trades_asof(1764000000000000000)`, with the same rule.

    Once per workgroup: `dbt run-operation create_trades_asof --target athena`. It names Silver alone, so
    no build changes it, and none repeats it: a name must be unique within its workgroup, so a second
    PREPARE may be refused. After a change of the rule: `--args '{replace: true}'`. -#}
{% macro create_trades_asof(replace=false) -%}
  {%- if target.type == 'athena' and execute -%}
    {%- if replace -%} {%- do run_query('deallocate prepare trades_asof') -%} {%- endif -%}
    {%- do run_query('prepare trades_asof from ' ~ current_trades(known_by='?')) -%}
  {%- else -%}
    {{ log('trades_asof is a macro of `headrace query`: nothing to store here', info=execute) }}
  {%- endif -%}
{%- endmacro %}
