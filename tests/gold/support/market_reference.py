"""What the market models should say, by hand: dictionaries, exact decimals and fractions, no SQL.

Rows are dictionaries with Silver's column names. Imported by tests of Gold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

Row = dict[str, Any]
Rows = list[Row]
Key = tuple[Any, ...]

SECOND = 10**9
MINUTE = 60 * SECOND
MAX_AGE = 60 * SECOND
RANK = {"new": 0, "correct": 1, "cancel": 2}
EXACT = Context(prec=60)


def day_of(ns: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // SECOND)).date()


def groups(rows: Iterable[Row], *keys: str) -> dict[Key, Rows]:
    found: dict[Key, Rows] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def arrival(row: Row) -> Key:
    number = row["sequence_number"]
    return row["ts_arrival_ns"], row["slice_id"], len(number), number, row["line_no"]


def standing(trades: Rows) -> Rows:
    """The last version of every trade that was not cancelled."""
    found = []
    for versions in groups(trades, "venue", "symbol", "trade_id").values():
        last = max(sorted(versions, key=arrival), key=version)  # of equals, max takes the first
        if last["kind"] != "cancel":
            found.append(last | {"event_day": day_of(last["ts_event_ns"])})
    return found


def version(row: Row) -> Key:
    rank = RANK[row["kind"]]
    return row["known_at_ns"], rank, row["ts_event_ns"], row["price"], row["size"]


def distinct(quotes: Rows) -> Rows:
    found = groups(quotes, "venue", "symbol", "ts_event_ns", "quote_id").values()
    return [min(copies, key=arrival) for copies in found]


def quote_at(quotes: Rows, trade: Row) -> Row | None:
    """The quote of a venue's symbol that stood when the trade happened."""
    at = trade["ts_event_ns"]
    seen = [q for q in quotes if q["ts_event_ns"] <= at]
    if not seen:
        return None
    last = max(seen, key=lambda q: (q["ts_event_ns"], len(q["quote_id"]), q["quote_id"]))
    return last if at - last["ts_event_ns"] <= MAX_AGE else None


def enriched(trades: Rows, quotes: Rows) -> dict[Key, Row]:
    """By venue, symbol and trade_id."""
    books, found = groups(distinct(quotes), "venue", "symbol"), {}
    for trade in standing(trades):
        place = trade["venue"], trade["symbol"]
        quote = quote_at(books.get(place, []), trade)
        found[(*place, trade["trade_id"])] = trade | quoted(trade, quote)
    return found


def quoted(trade: Row, quote: Row | None) -> Row:
    sides = ("bid_price", "bid_size", "ask_price", "ask_size")
    row = {
        "notional": EXACT.multiply(trade["price"], trade["size"]),
        "aggressor": trade["side"],
        **{side: quote[side] if quote else None for side in sides},
        **dict.fromkeys(("quote_age_ms", "mid_price", "effective_spread_bps")),
    }
    if quote is None:
        return row
    price = Fraction(trade["price"])
    mid = (Fraction(quote["bid_price"]) + Fraction(quote["ask_price"])) / 2
    row["mid_price"] = mid
    row["quote_age_ms"] = Fraction(trade["ts_event_ns"] - quote["ts_event_ns"], 10**6)
    row["effective_spread_bps"] = 2 * abs(price - mid) / mid * 10_000
    if trade["side"] == "unknown" and price != mid:
        row["aggressor"] = "buy" if price > mid else "sell"
    return row


def in_order(trade: Row) -> Key:
    return trade["ts_event_ns"], len(trade["trade_id"]), trade["trade_id"]


def bars(trades: Mapping[Key, Row], seconds: int) -> dict[Key, Row]:
    """By venue, symbol and start; from the trades themselves, whatever the width."""
    width, found = seconds * SECOND, {}
    rows = [t | {"start": t["ts_event_ns"] // width * width} for t in trades.values()]
    for (venue, symbol, start), of_bar in groups(rows, "venue", "symbol", "start").items():
        of_bar.sort(key=in_order)
        found[venue, symbol, start] = {
            "event_day": day_of(start),
            "open": of_bar[0]["price"],
            "close": of_bar[-1]["price"],
            "high": max(t["price"] for t in of_bar),
            "low": min(t["price"] for t in of_bar),
            "volume": added(t["size"] for t in of_bar),
            "notional": added(t["notional"] for t in of_bar),
            "trades": len(of_bar),
            "first_trade_ns": of_bar[0]["ts_event_ns"],
            "last_trade_ns": of_bar[-1]["ts_event_ns"],
        }
        row = found[venue, symbol, start]
        row["vwap"] = Fraction(row["notional"]) / Fraction(row["volume"])
    return found


def added(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def sessions(trades: Mapping[Key, Row]) -> dict[Key, Row]:
    """By venue, symbol and day."""
    minutes, found = groups(by_day(bars(trades, 60)), "venue", "symbol", "event_day"), {}
    for key, of_day in groups(trades.values(), "venue", "symbol", "event_day").items():
        of_day.sort(key=in_order)
        first, last = of_day[0]["price"], of_day[-1]["price"]
        closes = [Fraction(bar["close"]) for bar in minutes[key]]
        bought, sold = (
            added(t["size"] for t in of_day if t["aggressor"] == side) for side in ("buy", "sell")
        )
        volume, notional = (added(t[name] for t in of_day) for name in ("size", "notional"))
        told = Fraction(bought) + Fraction(sold)
        found[key] = {
            "session_date": key[2],
            "first_price": first,
            "last_price": last,
            "high": max(t["price"] for t in of_day),
            "low": min(t["price"] for t in of_day),
            "session_return": Fraction(last) / Fraction(first) - 1,
            "vwap": Fraction(notional) / Fraction(volume),
            "twap": sum(closes) / len(closes),
            "minutes": len(closes),
            "volume": volume,
            "notional": notional,
            "trades": len(of_day),
            "buy_volume": bought,
            "sell_volume": sold,
            "imbalance": (Fraction(bought) - Fraction(sold)) / told if told else None,
        }
    return found


def by_day(found: Mapping[Key, Row]) -> Rows:
    return [row | {"venue": key[0], "symbol": key[1]} for key, row in found.items()]


def spreads(trades: Mapping[Key, Row], quotes: Rows) -> dict[Key, Row]:
    """By venue, symbol and day with quotes."""
    found, traded = {}, groups(trades.values(), "venue", "symbol", "event_day")
    rows = [q | {"event_day": day_of(q["ts_event_ns"])} for q in distinct(quotes)]
    for key, of_day in groups(rows, "venue", "symbol", "event_day").items():
        of_day.sort(key=lambda q: (q["ts_event_ns"], len(q["quote_id"]), q["quote_id"]))
        times = [q["ts_event_ns"] for q in of_day]
        stood = [min(after - before, MAX_AGE) for before, after in pairwise(times)] + [0]
        pairs = [(Fraction(q["bid_price"]), Fraction(q["ask_price"])) for q in of_day]
        bps = [20_000 * (ask - bid) / (ask + bid) for bid, ask in pairs]
        weights = stood if sum(stood) else [1] * len(stood)
        depths = [
            (bid * Fraction(q["bid_size"]) + ask * Fraction(q["ask_size"])) / 2
            for (bid, ask), q in zip(pairs, of_day, strict=True)
        ]
        deals = traded.get(key, [])
        known = [t for t in deals if t["mid_price"] is not None]
        found[key] = {
            "quotes": len(of_day),
            "quoted_spread_bps": sum(b * w for b, w in zip(bps, weights, strict=True))
            / sum(weights),
            "mean_depth": mean(depths),
            "crossed_share": mean([int(bid > ask) for bid, ask in pairs]),
            "locked_share": mean([int(bid == ask) for bid, ask in pairs]),
            "trades": len(deals),
            "quoted_trades": len(known),
            "effective_spread_bps": mean([t["effective_spread_bps"] for t in known]),
            "inside_share": mean(
                [int(t["bid_price"] < t["price"] < t["ask_price"]) for t in known]
            ),
        }
    return found


def mean(values: list[Any]) -> Fraction | None:
    return Fraction(sum(values)) / len(values) if values else None


def hours(trades: Mapping[Key, Row]) -> dict[Key, Row]:
    """By venue, day and hour."""
    rows = [t | {"hour": t["ts_event_ns"] // (60 * MINUTE) % 24} for t in trades.values()]
    return {
        key: {
            "trades": len(of_hour),
            "symbols": len({t["symbol"] for t in of_hour}),
            "first_trade_ns": min(t["ts_event_ns"] for t in of_hour),
            "last_trade_ns": max(t["ts_event_ns"] for t in of_hour),
        }
        for key, of_hour in groups(rows, "venue", "event_day", "hour").items()
    }


def conditions(
    trades: Mapping[Key, Row], feed_days: Rows, is_open: Callable[[str], bool]
) -> dict[Key, Row]:
    """By venue and day."""
    busy: dict[Key, list[int]] = defaultdict(list)
    for venue, day, hour in hours(trades):
        busy[venue, day].append(hour)
    told = {row["arrival_day"]: row for row in feed_days if row["feed"] == "trades"}
    found, days = {}, sorted({day for _, day in busy})
    for venue in {venue for venue, _ in busy}:
        own = sorted(day for its, day in busy if its == venue)
        for day in (day for day in days if own[0] <= day <= own[-1]):
            of_day = busy.get((venue, day), [])
            feed = told.get(day, {"gaps": 0, "reject_share": 0.0})
            silent = max(of_day) - min(of_day) + 1 - len(of_day) if of_day else 0
            found[venue, day] = {
                "hours_with_trades": len(of_day),
                "silent_hours": silent,
                "trades": sum(
                    (t["venue"], t["event_day"]) == (venue, day) for t in trades.values()
                ),
                "gaps": feed["gaps"],
                "data_condition": (
                    "pending" if day == days[-1]
                    else "missing" if not of_day and is_open(venue)
                    else "degraded" if feed["gaps"] or feed["reject_share"] > 0.01
                    or (silent and is_open(venue))
                    else "available"
                ),
            }  # fmt: skip
    return found
