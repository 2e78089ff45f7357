{#- dbt_utils: no two rows agree in all the columns; nulls count as equal.
    Fails with: the columns, n_records. -#}
{% test unique_combination_of_columns(model, combination_of_columns, quote_columns=false) %}
{{ test_expect_compound_columns_to_be_unique(model, combination_of_columns, quote_columns, 'never') }}
{% endtest %}
