{#- What DuckDB and Athena (Trino) say differently. Models call these and are otherwise written in
    the SQL that both understand; README.md lists the differences and the functions to avoid. -#}

{#- Nanoseconds since 1970 as a timestamp, UTC. -#}
{% macro timestamp_of_ns(ns) -%} {{ return(adapter.dispatch('timestamp_of_ns')(ns)) }} {%- endmacro %}
{% macro duckdb__timestamp_of_ns(ns) -%} make_timestamp({{ ns }} // 1000) {%- endmacro %}
{% macro athena__timestamp_of_ns(ns) -%}
  {#- less the nanoseconds: Trino's cast rounds them, the other cuts them off -#}
  cast(from_unixtime_nanos(({{ ns }}) - ({{ ns }}) % 1000) at time zone 'UTC' as timestamp(6))
{%- endmacro %}

{#- A timestamp as Iceberg keeps it: microseconds. -#}
{% macro micros(expression) -%} {{ return(adapter.dispatch('micros')(expression)) }} {%- endmacro %}
{% macro duckdb__micros(expression) -%} cast({{ expression }} as timestamp) {%- endmacro %}
{% macro athena__micros(expression) -%} cast({{ expression }} as timestamp(6)) {%- endmacro %}

{#- a / b as a double, null for b = 0: DuckDB divides integers to a double, Trino to an integer. -#}
{% macro ratio(a, b) -%}
  (cast({{ a }} as double) / nullif(cast({{ b }} as double), 0))
{%- endmacro %}

{#- Every match replaced: DuckDB replaces only the first unless told otherwise. -#}
{% macro replace_all(text, pattern, by) -%}
  {{ return(adapter.dispatch('replace_all')(text, pattern, by)) }}
{%- endmacro %}
{% macro duckdb__replace_all(text, pattern, by) -%} regexp_replace({{ text }}, '{{ pattern }}', '{{ by }}', 'g') {%- endmacro %}
{% macro athena__replace_all(text, pattern, by) -%} regexp_replace({{ text }}, '{{ pattern }}', '{{ by }}') {%- endmacro %}

{#- `from relation, one row more per item of a split text`: columns of the relation and `item`. -#}
{% macro unnest_split(text, separator) -%}
  {{ return(adapter.dispatch('unnest_split')(text, separator)) }}
{%- endmacro %}
{% macro duckdb__unnest_split(text, separator) -%}
  cross join unnest(string_split({{ text }}, '{{ separator }}')) as split_items(item)
{%- endmacro %}
{% macro athena__unnest_split(text, separator) -%}
  cross join unnest(split({{ text }}, '{{ separator }}')) as split_items(item)
{%- endmacro %}

{#- True if a text holds a match of a regular expression (RE2 here, Java's there: keep to what both
    have). -#}
{% macro matches(text, pattern) -%} {{ return(adapter.dispatch('matches')(text, pattern)) }} {%- endmacro %}
{% macro duckdb__matches(text, pattern) -%} regexp_matches({{ text }}, '{{ pattern | replace("'", "''") }}') {%- endmacro %}
{% macro athena__matches(text, pattern) -%} regexp_like({{ text }}, '{{ pattern | replace("'", "''") }}') {%- endmacro %}

{#- The clock, UTC. Only for tests of recency: no model reads a clock. -#}
{% macro clock_utc() -%} {{ return(adapter.dispatch('clock_utc')()) }} {%- endmacro %}
{% macro duckdb__clock_utc() -%} make_timestamp(epoch_us(current_timestamp)) {%- endmacro %}
{% macro athena__clock_utc() -%} cast(current_timestamp at time zone 'UTC' as timestamp(6)) {%- endmacro %}

{#- Milliseconds from one timestamp to a later one, of each what is below a millisecond cut off: so
    Trino counts, and DuckDB's boundaries are the same for this unit alone. -#}
{% macro milliseconds_between(earlier, later) -%}
  {{ return(adapter.dispatch('milliseconds_between')(earlier, later)) }}
{%- endmacro %}
{% macro duckdb__milliseconds_between(earlier, later) -%} date_diff('millisecond', {{ earlier }}, {{ later }}) {%- endmacro %}
{% macro athena__milliseconds_between(earlier, later) -%} date_diff('millisecond', {{ earlier }}, {{ later }}) {%- endmacro %}

{#- A hash of a text, 32 hexadecimal digits. -#}
{% macro md5_of(text) -%} {{ return(adapter.dispatch('md5_of')(text)) }} {%- endmacro %}
{% macro duckdb__md5_of(text) -%} md5({{ text }}) {%- endmacro %}
{% macro athena__md5_of(text) -%} lower(to_hex(md5(to_utf8({{ text }})))) {%- endmacro %}

{#- How many items two arrays without repetitions share. -#}
{% macro common_items(a, b) -%} {{ return(adapter.dispatch('common_items')(a, b)) }} {%- endmacro %}
{% macro duckdb__common_items(a, b) -%} len(list_intersect({{ a }}, {{ b }})) {%- endmacro %}
{% macro athena__common_items(a, b) -%} cardinality(array_intersect({{ a }}, {{ b }})) {%- endmacro %}

{#- The smaller and the larger of two values, none of which is null: Trino's least and greatest are null
    if one is, DuckDB's are the other one. -#}
{% macro smaller(a, b) -%} (case when {{ a }} <= {{ b }} then {{ a }} else {{ b }} end) {%- endmacro %}
{% macro larger(a, b) -%} (case when {{ a }} >= {{ b }} then {{ a }} else {{ b }} end) {%- endmacro %}
