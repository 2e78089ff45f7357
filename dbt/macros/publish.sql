{#- Athena: point the views that people query at the tables of the slot that was audited.
    `relations`: table name -> its schema. A view is replaced at once; all of them within seconds. -#}
{% macro publish(relations) -%}
  {%- set schema = env_var('DBT_PUBLISHED_SCHEMA', 'gold') -%}
  {%- do run_query('create schema if not exists ' ~ schema) -%}
  {%- for name, place in relations | dictsort -%}
    {%- do run_query('create or replace view ' ~ schema ~ '.' ~ name ~ ' as select * from ' ~ place ~ '.' ~ name) -%}
  {%- endfor -%}
  {{ log(relations | length ~ ' views of ' ~ schema ~ ' lead to ' ~ target.schema, info=true) }}
{%- endmacro %}
