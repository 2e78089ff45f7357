{#- Quotes, each once. -#}
{{ distinct_quotes() }}
