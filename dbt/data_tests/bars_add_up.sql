{#- Trades, volume and notional of a day are the same in trades and in bars of every width, and so are
    high and low. Fails with: the day of a venue's symbol, and what each table says. -#}
with trades as (
    select
        venue, symbol, event_day, count(*) as trades, sum(size) as volume, sum(notional) as notional,
        max(price) as high, min(price) as low
    from {{ ref('int_enriched_trades') }}
    where {{ in_days('event_day') }}
    group by venue, symbol, event_day
),

bars as (
    {% for width in ['1m', '5m', '1h', '1d'] -%}
    select
        '{{ width }}' as width, venue, symbol, event_day, sum(trades) as trades, sum(volume) as volume,
        sum(notional) as notional, max(high) as high, min(low) as low
    from {{ ref('fct_bars_' ~ width) }}
    where {{ in_days('event_day') }}
    group by venue, symbol, event_day
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select
    coalesce(trades.venue, bars.venue) as venue,
    coalesce(trades.symbol, bars.symbol) as symbol,
    coalesce(trades.event_day, bars.event_day) as event_day,
    bars.width, trades.trades, bars.trades as bar_trades, trades.volume, bars.volume as bar_volume
from trades
full outer join bars
    on trades.venue = bars.venue and trades.symbol = bars.symbol and trades.event_day = bars.event_day
where trades.trades is distinct from bars.trades
    or trades.volume is distinct from bars.volume
    or trades.notional is distinct from bars.notional
    or trades.high is distinct from bars.high
    or trades.low is distinct from bars.low
