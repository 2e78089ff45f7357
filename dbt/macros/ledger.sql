{#- The ledger in Gold: its rows are appended commit by commit and never change. -#}

{#- A pre-hook: forget, per feed, the commits that are new in this build and whatever lies behind
    them. So a build that is repeated after it broke off, and a slot that was ahead, end up right. -#}
{% macro forget_commits() -%}
  {%- if execute and is_incremental() -%}
    {%- set new = run_query(
      'select feed, min(commit) as first_new from ' ~ source('ledger', 'commits') ~ ' group by feed order by feed'
    ) -%}
    {%- if new.rows | length -%}
      delete from {{ this }} where
      {%- for row in new.rows %} {{ 'or ' if not loop.first }}(feed = '{{ row[0] }}' and commit >= {{ row[1] }}){% endfor -%}
    {%- endif -%}
  {%- endif -%}
{%- endmacro %}

{#- The Silver tables that slices land in, one per feed, found and never listed: [{feed, relation,
    nullable}]. -#}
{% macro silver_feeds() -%}
  {%- set found = [] -%}
  {%- for node in (graph.sources.values() | sort(attribute='name') if execute else []) -%}
    {%- if node.source_name == 'silver' and 'slice_id' in node.columns -%}
      {%- do found.append({
        'feed': node.name,
        'relation': source('silver', node.name),
        'nullable': node.config.meta.nullable,
      }) -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(found) }}
{%- endmacro %}
