{#- dbt_utils: every value, of the rows meant, is found in the other table's rows meant; nulls pass.
    Fails with: the rows. -#}
{% test relationships_where(
    model, column_name, to, field, from_condition='true', to_condition='true'
) %}
select children.*
from (select * from {{ model }} where {{ from_condition }}) as children
left join (
    select distinct {{ field }} as parent_value from {{ to }} where {{ to_condition }}
) as parents
    on children.{{ column_name }} = parents.parent_value
where children.{{ column_name }} is not null and parents.parent_value is null
{% endtest %}
