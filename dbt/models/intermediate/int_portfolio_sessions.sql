{#- The days for which a portfolio's books say what it holds, each with the one before.
    Grain: portfolio, session_date. -#}
with sessions as (
    select distinct portfolio, session_date
    from {{ ref('stg_positions__positions') }}
)
select
    portfolio,
    session_date,
    lag(session_date) over (partition by portfolio order by session_date) as previous_session_date
from sessions
