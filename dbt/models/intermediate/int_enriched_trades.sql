{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail',
          pre_hook='{{ forget_days() }}', partitioned_by=['event_day']) }}
{{ current_trades(only_days=true) }}
