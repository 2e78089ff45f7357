{#- One row per feed, metric, venue, symbol and UTC event day: a value against the 20 days with data
    before it. z = (value - mean) / sample standard deviation; at least 5 such days, else none.
    Metrics: trades and notional of the day, price_jump = |ln(open / previous close)|, and
    null_share.<column> of every nullable column. A deviation that is too small to matter does not
    count as one: below 1 % of the mean (trades, notional), 0.001 (price_jump) or 0.005 (null share)
    the standard deviation is taken to be that. -#}
with bars as (
    select
        venue,
        symbol,
        event_day,
        cast(trades as double) as trades,
        cast(notional as double) as notional,
        cast(open as double) as open,
        lag(cast(close as double)) over (partition by venue, symbol order by event_day)
            as previous_close
    from {{ ref('fct_bars_1d') }}
),

measured as (
    select 'trades' as feed, 'trades' as metric, venue, symbol, event_day, trades as value
    from bars
    union all
    select 'trades' as feed, 'notional' as metric, venue, symbol, event_day, notional as value
    from bars
    union all
    select 'trades' as feed, 'price_jump' as metric, venue, symbol, event_day,
        abs(ln({{ ratio('open', 'previous_close') }})) as value
    from bars
    where open > 0 and previous_close > 0
    union all
    select feed, 'null_share.' || column_name as metric, '' as venue, '' as symbol, event_day,
        {{ ratio('null_count', 'row_count') }} as value
    from {{ ref('int_null_shares_day') }}
),

followed as (
    select
        measured.*,
        count(*) over before as days_before,
        avg(value) over before as mean_before,
        stddev_samp(value) over before as stdev_before
    from measured
    window before as (
        partition by feed, metric, venue, symbol
        order by event_day
        rows between 20 preceding and 1 preceding
    )
),

bounded as (
    select
        followed.*,
        case
            when metric in ('trades', 'notional') then 0.01e0 * mean_before
            when metric = 'price_jump' then 0.001e0
            else 0.005e0
        end as least_stdev
    from followed
),

scored as (
    select
        bounded.*,
        case
            when days_before < 5 then null
            when stdev_before > least_stdev then {{ ratio('value - mean_before', 'stdev_before') }}
            else {{ ratio('value - mean_before', 'least_stdev') }}
        end as z
    from bounded
)

select
    cast(feed as varchar) as feed,
    cast(metric as varchar) as metric,
    cast(venue as varchar) as venue,
    cast(symbol as varchar) as symbol,
    cast(event_day as date) as event_day,
    cast(round(value, 9) as double) as value,
    cast(days_before as bigint) as days_before,
    cast(round(mean_before, 9) as double) as mean_before,
    cast(round(stdev_before, 9) as double) as stdev_before,
    cast(round(z, 6) as double) as z_score,
    coalesce(abs(z) > 4e0, false) as is_anomaly
from scored
