{#- Near copies of a story are looked for among those of its UTC day and the two days before: at
    least 48 hours, at most 72. Whole days, because then all copies of one day see the same earlier
    ones and agree on the group's name; a sliding window renames a running story at every copy. -#}
{% macro news_days_back() -%} {{ return(2) }} {%- endmacro %}

{#- A day changes what the two days after it find: those are computed again, too. -#}
{% macro days_reached(after) -%}
  {%- set days = var('days', none) -%}
  {%- if days is none -%} {{ return(none) }} {%- endif -%}
  {%- set reached = [] -%}
  {%- for day in days -%}
    {%- for by in range(after + 1) -%} {%- do reached.append(shift_day(day, by) | trim) -%} {%- endfor -%}
  {%- endfor -%}
  {{ return(reached | unique | sort | list) }}
{%- endmacro %}

{% macro in_days_reached(column, after=news_days_back()) -%}
  {%- set days = days_reached(after) -%}
  {%- if days is none -%} true
  {%- elif days | length == 0 -%} false
  {%- else -%} {{ column }} in ({% for day in days %}date '{{ day }}'{% if not loop.last %}, {% endif %}{% endfor %})
  {%- endif -%}
{%- endmacro %}

{#- The days that the reached ones look back on. -#}
{% macro in_days_seen(column) -%}
  {%- set days = days_reached(news_days_back()) -%}
  {%- if days is none -%} true
  {%- elif days | length == 0 -%} false
  {%- else -%}
    {{ column }} >= date '{{ shift_day(days | min, -news_days_back()) | trim }}' and {{ column }} <= date '{{ days | max }}'
  {%- endif -%}
{%- endmacro %}

{% macro forget_days_reached() -%}
  {%- if is_incremental() -%} delete from {{ this }} where {{ in_days_reached('event_day') }} {%- endif -%}
{%- endmacro %}

{#- A title without case, punctuation and repeated spaces: letters and digits of any script stay. -#}
{% macro plain_title(title) -%}
  trim({{ replace_all('lower(' ~ title ~ ')', '[^\\p{L}\\p{M}\\p{N}]+', ' ') }})
{%- endmacro %}

{#- Earlier: by publication, then arrival, then key; never equal for two copies. -#}
{% macro copy_order(alias) -%}
  row({{ alias }}.ts_published_ns, {{ alias }}.first_seen_ns, {{ alias }}.story_key)
{%- endmacro %}
