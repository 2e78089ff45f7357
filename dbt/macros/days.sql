{#- Which event days a run recomputes: the var `days`, or all of them.

    A model that is computed by day selects `in_days('event_day')`, and forgets the same days
    before it inserts them again (`forget_days`, a pre-hook). Both are one transaction in DuckDB; on
    Athena the slot is not read by anybody before it is published. So a second run changes nothing,
    and a day that became empty is emptied. -#}

{% macro in_days(column) -%}
  {%- set days = var('days', none) -%}
  {%- if days is none -%} true
  {%- elif days | length == 0 -%} false
  {%- else -%} {{ column }} in ({% for day in days %}date '{{ day }}'{% if not loop.last %}, {% endif %}{% endfor %})
  {%- endif -%}
{%- endmacro %}

{#- The same for a timestamp (UTC), as ranges that prune files. `reach`: days more on both sides. -#}
{% macro in_days_ts(column, reach=0) -%}
  {%- set days = var('days', none) -%}
  {%- if days is none -%} true
  {%- elif days | length == 0 -%} false
  {%- else -%}
    {%- set first, last = days | min, days | max -%}
    {{ column }} >= timestamp '{{ shift_day(first, -reach) }} 00:00:00'
    and {{ column }} < timestamp '{{ shift_day(last, reach + 1) }} 00:00:00'
    {%- if not reach %} and cast({{ column }} as date) in ({% for day in days %}date '{{ day }}'{% if not loop.last %}, {% endif %}{% endfor %}){% endif -%}
  {%- endif -%}
{%- endmacro %}

{% macro shift_day(day, by) -%}
  {{ (modules.datetime.date.fromisoformat(day) + modules.datetime.timedelta(days=by)).isoformat() }}
{%- endmacro %}

{% macro forget_days() -%}
  {%- if is_incremental() -%} delete from {{ this }} where {{ in_days('event_day') }} {%- endif -%}
{%- endmacro %}

{#- A timestamp between the first and the last of the days, those between them included. -#}
{% macro from_first_to_last_day(column) -%}
  {%- set days = var('days', none) -%}
  {%- if days is none -%} true
  {%- elif days | length == 0 -%} false
  {%- else -%}
    {{ column }} >= timestamp '{{ days | min }} 00:00:00'
    and {{ column }} < timestamp '{{ shift_day(days | max, 1) }} 00:00:00'
  {%- endif -%}
{%- endmacro %}

{#- A timestamp from `seconds` before the first day to the end of the last one: what a look back from
    the days may see. -#}
{% macro from_before_first_day(column, seconds) -%}
  {%- set days = var('days', none) -%}
  {%- if days is none -%} true
  {%- elif days | length == 0 -%} false
  {%- else -%}
    {%- set start = modules.datetime.datetime.fromisoformat(days | min) - modules.datetime.timedelta(seconds=seconds) -%}
    {{ column }} >= timestamp '{{ start.isoformat(sep=" ") }}'
    and {{ column }} < timestamp '{{ shift_day(days | max, 1) }} 00:00:00'
  {%- endif -%}
{%- endmacro %}

{#- `where: __days__` in a test's config: only the days of this run. -#}
{% macro get_where_subquery(relation) -%}
  {%- set where = config.get('where', '') -%}
  {%- if where -%}
    (select * from {{ relation }} where {{ where | replace('__days__', in_days('event_day')) }}) dbt_subquery
  {%- else -%} {{ relation }} {%- endif -%}
{%- endmacro %}
