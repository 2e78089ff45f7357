"""Trino's own grammar: the ANTLR rules of release 422, which Athena's engine 3 is at or beyond.

sqlglot accepts what it can guess; this refuses what Trino's parser would refuse, reserved words
as names included, and knows a function's name as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator

from antlr4 import CommonTokenStream, InputStream, ParserRuleContext, PredictionMode
from trino_query_parser.error import TrinoErrorListener, TrinoSyntaxError
from trino_query_parser.SqlBaseLexer import SqlBaseLexer
from trino_query_parser.SqlBaseParser import SqlBaseParser

__all__ = ["TrinoSyntaxError", "function_names", "parse"]


def parse(sql: str) -> ParserRuleContext:
    """A statement's tree. Raises: TrinoSyntaxError with its place and what was expected."""
    lexer = SqlBaseLexer(InputStream(sql.upper()))  # the lexer knows keywords in upper case only
    parser = SqlBaseParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(TrinoErrorListener())
    parser._interp.predictionMode = PredictionMode.SLL
    return parser.singleStatement()


def function_names(tree: ParserRuleContext) -> set[str]:
    """The functions that a statement calls, in lower case, as they were written."""
    calls = (n for n in _nodes(tree) if isinstance(n, SqlBaseParser.FunctionCallContext))
    return {call.qualifiedName().getText().lower() for call in calls if call.qualifiedName()}


def _nodes(tree: ParserRuleContext) -> Iterator[ParserRuleContext]:
    yield tree
    for child in getattr(tree, "children", None) or ():
        yield from _nodes(child)
