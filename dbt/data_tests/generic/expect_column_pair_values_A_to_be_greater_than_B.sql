{#- A > B, or A >= B with `or_equal`; a null in either passes. Fails with: the rows. -#}
{% test expect_column_pair_values_A_to_be_greater_than_B(
    model, column_A, column_B, or_equal=false, row_condition=none
) %}
{{ rows_that_break(
    model, column_A ~ (' >= ' if or_equal else ' > ') ~ column_B, row_condition
) }}
{% endtest %}
