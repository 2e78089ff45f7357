{#- Glue keeps names of tables in lower case, and dbt refuses a kept failure that is only similar to
    `..._A_to_be_greater_than_B_...`: on Athena every name is lower case. -#}
{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
  {%- set name = default__generate_alias_name(custom_alias_name, node) | trim -%}
  {{ name | lower if target.type == 'athena' else name }}
{%- endmacro %}
