"""What Trino's analyzer would say of a query: every column resolves, every expression has a type.

Columns are resolved by sqlglot with the tables' columns at hand; names of select items are known
to ORDER BY alone, as in Trino. Types are computed bottom-up (`trino_types`), so a comparison of
text with a date, a sum of texts or a call with wrong arguments is a fault, not a surprise on AWS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from trino_types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTERVAL,
    UNKNOWN,
    VARCHAR,
    ZONED,
    TrinoTypeError,
    Type,
    arithmetic,
    call,
    common,
    decimal,
    parse_type,
    show,
)

Tables = Mapping[str, Mapping[str, Type]]
"""Columns of every table that may be read: 'schema.name' -> column -> type, in order."""

NAMES = {  # sqlglot's node -> Trino's name, where its own text is no plain call
    exp.Hour: "hour", exp.Encode: "to_utf8", exp.MD5Digest: "md5", exp.Count: "count",
    exp.Trim: "trim", exp.Substring: "substr", exp.DateDiff: "date_diff", exp.DateAdd: "date_add",
    exp.Ceil: "ceil", exp.Pow: "power", exp.LowerHex: "to_hex", exp.Hex: "to_hex",
    exp.RegexpLike: "regexp_like", exp.RegexpReplace: "regexp_replace", exp.Split: "split",
    exp.Lag: "lag", exp.Lead: "lead", exp.ArgMax: "max_by", exp.ArgMin: "min_by",
}  # fmt: skip
SIGNS = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}


@dataclass
class Analysis:
    """`columns`: name -> type of what the query gives. `written`: sqlglot's tree of it; `tree`: the
    same with columns resolved and stars expanded. `types`: of every node of it, by identity.
    """

    columns: dict[str, Type] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    written: exp.Expression | None = None
    tree: exp.Expression | None = None
    types: dict[int, Type] = field(default_factory=dict)

    def type_of(self, node: exp.Expression) -> Type:
        return self.types.get(id(node), UNKNOWN)


def analyse(sql: str, tables: Tables) -> Analysis:
    """Resolve and type a SELECT; what is wrong is in `faults`."""
    result = Analysis()
    try:
        result.written = parsed = sqlglot.parse_one(sql, read="athena")
        result.faults += [f"no table {name}" for name in _unknown_tables(parsed, tables)]
        if result.faults:
            return result
        result.tree = qualify(
            parsed.copy(), dialect="athena", schema=_nested(tables), quote_identifiers=False,
            expand_alias_refs=False, identify=False, canonicalize_table_aliases=False,
        )  # fmt: skip
    except SqlglotError as error:
        result.faults.append(re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0])
        return result
    outputs: dict[int, dict[str, Type]] = {}
    for scope in traverse_scope(result.tree):
        outputs[id(scope)] = _Typing(scope, tables, outputs, result).columns()
        result.columns = outputs[id(scope)]
    return result


class _Typing:
    """The expressions of one scope."""

    def __init__(
        self, scope: Scope, tables: Tables, outputs: Mapping[int, dict[str, Type]], into: Analysis
    ) -> None:
        self._scope, self._tables, self._outputs, self._into = scope, tables, outputs, into

    def columns(self) -> dict[str, Type]:
        tree = self._scope.expression
        if isinstance(tree, exp.SetOperation):
            return self._union()
        if not isinstance(tree, exp.Select):
            return self._unnested(tree)
        for part in ("where", "having"):
            if (clause := tree.args.get(part)) is not None:
                self._expect_boolean(clause.this)
        for join in tree.args.get("joins") or ():
            if (condition := join.args.get("on")) is not None:
                self._expect_boolean(condition)
        for part in ("group", "order"):
            for item in (tree.args.get(part) or exp.Group()).expressions:
                self.type(item.this if isinstance(item, exp.Ordered) else item, may_be_alias=True)
        found: dict[str, Type] = {}
        for item in tree.selects:
            if item.alias_or_name in found:
                self._fault(f"column {item.alias_or_name} is there twice")
            found[item.alias_or_name] = self.type(item)
        return found

    def _union(self) -> dict[str, Type]:
        left, right = (self._outputs[id(scope)] for scope in self._scope.set_operation_scopes)
        if len(left) != len(right):
            self._fault(f"UNION of {len(left)} and {len(right)} columns")
        found = {}
        for (name, one), other in zip(left.items(), right.values(), strict=False):
            found[name] = self._guard(partial(common, one, other), f"UNION: {name}")
        return found

    def _unnested(self, tree: exp.Expression) -> dict[str, Type]:
        if isinstance(tree, exp.Unnest):
            kinds = [self.type(item) for item in tree.expressions]
            names = [c.name for c in (tree.args["alias"].args.get("columns") or ())]
            items = [kind[1] if kind[0] == "array" else UNKNOWN for kind in kinds]
            return dict(zip(names, items, strict=False))
        self._fault(f"{type(tree).__name__} is not understood")
        return {}

    def type(self, node: exp.Expression | None, *, may_be_alias: bool = False) -> Type:
        """The type of an expression; a fault is noted once and the type then unknown."""
        if node is None:
            return UNKNOWN
        found = self._guard(partial(self._infer, node, may_be_alias), "")
        self._into.types[id(node)] = found
        return found

    def _guard(self, compute: Callable[[], Type], where: str) -> Type:
        try:
            return compute()
        except TrinoTypeError as error:
            self._fault(f"{where}: {error}" if where else str(error))
            return UNKNOWN

    def _fault(self, text: str) -> None:
        if text not in self._into.faults:
            self._into.faults.append(text)

    def _expect_boolean(self, node: exp.Expression) -> None:
        if (kind := self.type(node)) not in (BOOLEAN, UNKNOWN):
            self._fault(f"{_short(node)} is {show(kind)}, no condition")

    def _infer(self, node: exp.Expression, may_be_alias: bool) -> Type:
        if isinstance(node, exp.Column):
            return self._column(node, may_be_alias)
        if isinstance(node, exp.Order):  # of an aggregate
            for item in node.expressions:
                self.type(item.this)
            return self.type(node.this)
        if isinstance(node, (exp.Alias, exp.Paren, exp.Filter, exp.Distinct, exp.IgnoreNulls)):
            if isinstance(node, exp.Filter):
                self._expect_boolean(node.expression.this)
            return self.type(node.this or node.expressions[0])
        if isinstance(node, exp.Window):
            for part in (*(node.args.get("partition_by") or ()), *_ordered(node)):
                self.type(part)
            return self.type(node.this)
        if isinstance(node, exp.Literal):
            return _literal(node)
        if isinstance(node, exp.Boolean):
            return BOOLEAN
        if isinstance(node, exp.Null):
            return UNKNOWN
        if isinstance(node, exp.Interval):
            return INTERVAL
        if isinstance(node, exp.Cast):
            self.type(node.this)
            return parse_type(node.to.sql("trino"))
        if isinstance(node, (exp.Case, exp.If)):
            return self._case(node)
        if isinstance(node, exp.Neg):
            return self.type(node.this)
        if type(node) in SIGNS:
            return arithmetic(SIGNS[type(node)], *self._pair(node))
        if isinstance(node, exp.DPipe):
            if any(kind not in (VARCHAR, UNKNOWN) for kind in self._pair(node)):
                raise TrinoTypeError(f"|| joins texts only: {_short(node)}")
            return VARCHAR
        return self._condition_or_call(node)

    def _condition_or_call(self, node: exp.Expression) -> Type:
        if isinstance(node, (exp.Connector, exp.Not)):
            for part in node.iter_expressions():
                self._expect_boolean(part)
            return BOOLEAN
        if isinstance(node, exp.Is):
            self.type(node.this)
            return BOOLEAN
        if isinstance(node, exp.Like):
            if any(kind != VARCHAR for kind in self._pair(node)):
                raise TrinoTypeError(f"LIKE compares texts only: {_short(node)}")
            return BOOLEAN
        if isinstance(node, (exp.Predicate, exp.NullSafeNEQ, exp.NullSafeEQ)):
            self._compare(node)
            return BOOLEAN
        if isinstance(node, exp.AtTimeZone):
            self.type(node.this)
            return ZONED
        if isinstance(node, exp.Struct):
            return ("row", *(self.type(_value(item)) for item in node.expressions))
        if isinstance(node, exp.Subquery):
            scope = next(s for s in self._scope.subquery_scopes if s.expression is node.this)
            return next(iter(self._outputs[id(scope)].values()))
        if isinstance(node, exp.CurrentTimestamp):
            return ZONED
        if isinstance(node, exp.Func):
            return self._call(node)
        raise TrinoTypeError(f"{type(node).__name__} is not understood: {_short(node)}")

    def _column(self, node: exp.Column, may_be_alias: bool) -> Type:
        source, scope = None, self._scope
        while source is None and scope is not None:  # a subquery sees the query around it
            source, scope = scope.sources.get(node.table), scope.parent
        if source is None and may_be_alias and not node.table:
            item = next(i for i in self._scope.expression.selects if i.alias_or_name == node.name)
            return self.type(item)
        if isinstance(source, Scope):
            columns: Mapping[str, Type] = self._outputs[id(source)]
        elif source is not None:
            columns = self._tables[f"{source.db}.{source.name}"]
        else:
            raise TrinoTypeError(f"column {node.sql()} cannot be resolved")
        if node.name not in columns:
            raise TrinoTypeError(f"column {node.sql()} cannot be resolved")
        return columns[node.name]

    def _case(self, node: exp.Expression) -> Type:
        branches = node.args["ifs"] if isinstance(node, exp.Case) else [node]
        subject = node.this if isinstance(node, exp.Case) else None
        found: Type = UNKNOWN
        for branch in branches:
            if subject is None:
                self._expect_boolean(branch.this)
            else:
                common(self.type(subject), self.type(branch.this))
            found = common(found, self.type(branch.args["true"]))
        default = node.args.get("default") or node.args.get("false")
        return common(found, self.type(default)) if default is not None else found

    def _compare(self, node: exp.Expression) -> None:
        if isinstance(node, exp.Exists):
            return  # its query is a scope of its own
        first = self.type(node.this)
        others = list(node.iter_expressions())[1:]
        if isinstance(node, exp.In) and (query := node.args.get("query")) is not None:
            others = [query]
        for other in others:
            common(first, self.type(other))

    def _pair(self, node: exp.Expression) -> tuple[Type, Type]:
        return self.type(node.this), self.type(node.expression)

    def _call(self, node: exp.Func) -> Type:
        if isinstance(node, exp.LowerHex):  # lower(to_hex(x))
            return call("lower", [call("to_hex", [self.type(node.this)])])
        name = NAMES.get(type(node)) or node.sql(dialect="trino").partition("(")[0].lower()
        return call(name, [self.type(item) for item in _arguments(node)])


def _arguments(node: exp.Func) -> Iterator[exp.Expression]:
    if isinstance(node, (exp.DateDiff, exp.DateAdd)):
        yield exp.Literal.string(str(node.args["unit"]))
        yield from (node.expression, node.this)
    elif isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
        return
    elif isinstance(node, exp.Count) and isinstance(node.this, exp.Distinct):
        yield node.this.expressions[0]
    elif isinstance(node, exp.Round):
        yield from _given(node, "this", "decimals", "truncate")
    elif isinstance(node, (exp.Trim, exp.Encode, exp.MD5Digest)):
        yield node.this
    elif isinstance(node, exp.RegexpReplace):
        yield from _given(node, "this", "expression", "replacement", "position", "modifiers")
    else:
        yield from (item for item in node.iter_expressions() if not isinstance(item, exp.Var))


def _given(node: exp.Func, *names: str) -> Iterator[exp.Expression]:
    yield from (
        node.args[name] for name in names if isinstance(node.args.get(name), exp.Expression)
    )


def _ordered(window: exp.Window) -> Iterator[exp.Expression]:
    order = window.args.get("order")
    yield from (item.this for item in order.expressions) if order is not None else ()


def _value(item: exp.Expression) -> exp.Expression:
    return item.expression if isinstance(item, exp.PropertyEQ) else item


def _literal(node: exp.Literal) -> Type:
    if node.is_string:
        return VARCHAR
    text = node.this.lower()
    if "e" in text:
        return DOUBLE
    if "." in text:
        whole, _, rest = text.partition(".")
        return decimal(len(whole.lstrip("0")) + len(rest), len(rest))
    return INTEGER if int(text) < 2**31 else BIGINT


def _short(node: exp.Expression) -> str:
    return node.sql(dialect="trino")[:80]


def _unknown_tables(tree: exp.Expression, tables: Tables) -> Iterator[str]:
    for table in tree.find_all(exp.Table):
        name = f"{table.db}.{table.name}"
        if table.db and name not in tables:
            yield name


def _nested(tables: Tables) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    nested: dict[str, dict[str, dict[str, str]]] = {}
    for name, columns in tables.items():
        schema, _, table = name.partition(".")
        nested.setdefault(schema, {})[table] = dict.fromkeys(columns, "varchar")
    return {"awsdatacatalog": nested}
