{#- The trades as they were known at a time: dbt show --inline, or --vars '{known_by_ns: 1764000000000000000}'. -#}
{{ current_trades(known_by=var('known_by_ns', 9223372036854775807)) }}
