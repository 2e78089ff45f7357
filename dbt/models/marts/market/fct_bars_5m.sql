{{ config(materialized='incremental', incremental_strategy='append',
          on_schema_change='append_new_columns', pre_hook='{{ forget_days() }}',
          partitioned_by=(['event_day'] if target.type == 'athena' else none)) }}
{#- Bars of the trades that stand, five-minute bars rolled up from one minute. Grain: venue, symbol, start. -#}
{{ roll_up(300) }}
