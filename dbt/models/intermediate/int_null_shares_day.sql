{#- Nulls of every nullable column, per feed and UTC event day. Which columns may be null is the
    contract's word (meta `nullable` of the source): a new feed is counted without a change here. -#}
{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days() }}', partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{% for silver in silver_feeds() if silver.nullable -%}
select
    cast('{{ silver.feed }}' as varchar) as feed,
    cast(names.column_name as varchar) as column_name,
    counted.event_day,
    cast(counted.row_count as bigint) as row_count,
    cast(
        counted.row_count
        - case names.column_name {% for name in silver.nullable %} when '{{ name }}' then counted.{{ name }}_known{% endfor %} end
        as bigint
    ) as null_count
from (
    select
        cast(ts_event as date) as event_day,
        count(*) as row_count
        {%- for name in silver.nullable %},
        count({{ name }}) as {{ name }}_known
        {%- endfor %}
    from {{ silver.relation }}
    where {{ in_days_ts('ts_event') }}
    group by cast(ts_event as date)
) as counted
cross join (
    {% for name in silver.nullable -%}
    select '{{ name }}' as column_name{% if not loop.last %} union all {% endif %}
    {%- endfor %}
) as names
{% if not loop.last %}union all{% endif %}
{% else -%}
select
    cast(null as varchar) as feed, cast(null as varchar) as column_name, cast(null as date) as event_day,
    cast(null as bigint) as row_count, cast(null as bigint) as null_count
{%- endfor %}
