{#- Athena: the tables of feeds that were never started are read from the namespace `absent`, where
    they are empty; DBT_ABSENT names them. Locally Silver's views are empty then. -#}
{% macro source(source_name, table_name) -%}
  {%- set relation = builtins.source(source_name, table_name) -%}
  {%- if source_name == 'silver' and table_name in env_var('DBT_ABSENT', '').split(',') -%}
    {{ return(relation.incorporate(path={'schema': 'absent'})) }}
  {%- endif -%}
  {{ return(relation) }}
{%- endmacro %}
