{#- Completeness: Silver holds as many rows of every slice as the ledger says, for the slices that
    are new in this build, and no row of a slice that the ledger does not know.

    Only slices are counted whose events lie between the first and the last of the days at hand:
    all their rows are read. The ledger keeps no event times of redriven rows, so these may lie
    outside: then the count may be smaller by at most the redriven rows. Without `days` everything
    is read and counted exactly. -#}
{{ config(severity='error') }}
{%- set days = var('days', none) -%}
with changed as (
    select distinct feed, slice_id from {{ source('ledger', 'events') }}
),

expected as (
    select
        slices.feed,
        slices.slice_id,
        slices.silver_rows as at_most,
        {% if days is none -%}
        slices.silver_rows as at_least,
        {%- else -%}
        case
            when slices.redriven_rows > 0 and slices.landed_rows > slices.dropped_rows
            then slices.landed_rows - slices.dropped_rows
            when slices.redriven_rows > 0 then 0
            else slices.silver_rows
        end as at_least,
        {%- endif %}
        slices.arrived_from,
        slices.arrived_to
    from {{ ref('int_ledger_slices') }} as slices
    inner join changed on slices.feed = changed.feed and slices.slice_id = changed.slice_id
    {%- if days is not none %}
    where {{ from_first_to_last_day('slices.event_from') }}
      and {{ from_first_to_last_day('slices.event_to') }}
    {%- endif %}
),

found as (
    {% for silver in silver_feeds() -%}
    select '{{ silver.feed }}' as feed, slice_id, count(*) as silver_rows
    from {{ silver.relation }}
    where {{ from_first_to_last_day('ts_event') }}
    group by slice_id
    {% if not loop.last %}union all{% endif %}
    {% else -%}
    select cast(null as varchar) as feed, cast(null as varchar) as slice_id, 0 as silver_rows
    {%- endfor %}
)

select
    expected.feed,
    expected.slice_id,
    expected.at_least as expected,
    coalesce(found.silver_rows, 0) as found,
    expected.arrived_from,
    expected.arrived_to
from expected
left join found on expected.feed = found.feed and expected.slice_id = found.slice_id
where coalesce(found.silver_rows, 0) < expected.at_least
   or coalesce(found.silver_rows, 0) > expected.at_most

union all

select
    found.feed,
    found.slice_id,
    0 as expected,
    found.silver_rows as found,
    {{ micros('null') }} as arrived_from,
    {{ micros('null') }} as arrived_to
from found
left join {{ ref('int_ledger_slices') }} as slices
    on found.feed = slices.feed and found.slice_id = slices.slice_id
where slices.slice_id is null and found.slice_id is not null
