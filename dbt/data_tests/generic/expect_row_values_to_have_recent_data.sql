{#- The newest time is at most `interval` `datepart`s old; later ones than now are not believed, and
    no row at all fails. "Now" is the var `now`, else the clock. Fails with: max_timestamp, checked_at. -#}
{% test expect_row_values_to_have_recent_data(
    model, column_name, datepart, interval, row_condition=none
) %}
{{ test_expect_grouped_row_values_to_have_recent_data(
    model, [], column_name, datepart, interval, row_condition
) }}
{% endtest %}
