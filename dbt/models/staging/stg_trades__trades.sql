{#- The trades that stand: of each trade its latest known version, cancelled ones left out. -#}
{{ current_trades() }}
