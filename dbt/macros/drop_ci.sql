{#- Slim CI: drop what this project makes in the schemas under the target's name, e.g. `ci_pr_12` and
    `ci_pr_12_staging`. Table by table, because Athena deletes the files of a table, not those of
    a schema. By the project's own names, not by a prefix: `ci_pr_1` is no other one's `ci_pr_12`. -#}
{% macro drop_ci_schemas() -%}
  {%- if not target.schema.startswith('ci_') -%}
    {%- do exceptions.raise_compiler_error('schema ' ~ target.schema ~ ' is kept: only ci_* is dropped') -%}
  {%- endif -%}
  {%- set schemas = [target.schema] -%}
  {%- for node in graph.nodes.values() if node.schema -%}
    {%- set relation = adapter.get_relation(target.database, node.schema, node.alias) -%}
    {%- if relation is not none -%} {%- do adapter.drop_relation(relation) -%} {%- endif -%}
    {%- do schemas.append(node.schema) -%}
  {%- endfor -%}
  {%- for schema in schemas | unique | sort -%}
    {%- do adapter.drop_schema(api.Relation.create(database=target.database, schema=schema)) -%}
  {%- endfor -%}
  {{ log('dropped ' ~ target.schema, info=true) }}
{%- endmacro %}
