"""Expressions in SQL's syntax over the columns of a table, run by a DuckDB that can reach nothing else.

An expression sees one row at a time and gives the same on every run: no query inside, no aggregate, no window, no
function of chance or of time.
"""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.errors import CurationError

# DuckDB is imported where an expression is evaluated: a long process that never does need not hold it, and where it is
# held by threads that outlive it, as Prefect's do, it reports leaks at the end.
if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_READS_FILES = re.compile("^(read|parquet|sniff)_|^glob$|_scan$")  # of DuckDB's functions that give tables
_ZONED = ["TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS", "TIME WITH TIME ZONE"]
_OF_NOW = {"age"}  # of one argument it counts to the current day, and DuckDB calls it consistent
_FORBIDDEN = {
    "SUBQUERY": "a query within it",
    "WINDOW": "a window over other rows",
    "STAR": "a star",
    "PARAMETER": "a parameter",
}
_NAMES_TOLD = 20


def columns_of(text: str, schema: pa.Schema, what: str) -> list[str]:
    """The columns that an expression looks at, as the schema spells them, in the order of their first mention.

    `what` names the expression in errors. Raises CurationError where it is no single expression, has more than a row in
    view, is not the same on every run, or asks for a column that is not there.
    """
    with _connection() as connection:
        tree = _tree(connection, text, what)
        for node in _nodes(tree):
            if reason := _FORBIDDEN.get(str(node.get("class"))):
                raise CurationError(f"{what}: {text!r} has {reason}; give one expression over the columns of one clip")
        functions = {str(n["function_name"]).lower() for n in _nodes(tree) if n.get("class") == "FUNCTION"}
        if why := _refused(connection, functions):
            raise CurationError(f"{what}: {text!r} uses {why}")
    known = {name.lower(): name for name in schema.names}
    lambdas = {name for n in _nodes(tree) if n.get("class") == "LAMBDA" for name in _references(n.get("lhs"))}
    asked = [name for name in dict.fromkeys(_references(tree)) if name not in lambdas]
    if not asked:
        raise CurationError(f"{what}: {text!r} looks at no column")
    for name in asked:
        if name.lower() not in known:
            raise CurationError(f"{what}: {text!r}: the manifest has no column {name!r}; {hint(name, schema.names)}")
    return list(dict.fromkeys(known[name.lower()] for name in asked))


def hint(name: str, known: Sequence[str]) -> str:
    """The closest of the known names, or some of them."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    more = len(known) - _NAMES_TOLD
    return f"there are {', '.join(known[:_NAMES_TOLD])}" + f" and {more} more" * (more > 0)


def evaluate(table: pa.Table, text: str, what: str, *, truth: bool) -> pa.ChunkedArray:
    """An expression's value for each row, in order: bool where `truth` is asked for, else float64; null where unknown.

    Raises CurationError as `columns_of` does, and where the value is of another kind or cannot be computed.
    """
    import duckdb

    columns = columns_of(text, table.schema, what)
    with _connection() as connection:
        connection.register("clips", table.select(columns))
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        query = f"SELECT {duckdb.SQLExpression(text)} AS value FROM clips"
        try:
            connection.execute(f"SELECT 1 FROM clips WHERE ({duckdb.SQLExpression(text)}) IS NULL LIMIT 0")  # no sums
            kind = str(connection.sql(query).types[0])
            if truth and kind not in ("BOOLEAN", '"NULL"'):
                raise CurationError(f"{what}: {text!r} is {kind}, not true or false; compare it with something")
            if not truth and not _is_number(kind):
                raise CurationError(f"{what}: {text!r} is {kind}, not a number")
            wanted = "BOOLEAN" if truth else "DOUBLE"
            return connection.sql(f"SELECT value::{wanted} AS value FROM ({query})").to_arrow_table()["value"]
        except (duckdb.Error, pa.ArrowException) as error:
            raise CurationError(f"{what}: {text!r}: {_line(error)}") from error


def _connection() -> "DuckDBPyConnection":
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_progress_bar = false")  # it would write on stdout
    connection.execute("SET TimeZone = 'UTC'")  # not the machine's
    return connection


def _tree(connection: "DuckDBPyConnection", text: str, what: str) -> Any:
    import duckdb

    try:
        text.encode()  # DuckDB calls text that is no UTF-8 a wrong argument type
        parsed = str(duckdb.SQLExpression(text))  # one expression and nothing behind it
        answer = connection.execute("SELECT json_serialize_sql($query)", {"query": f"SELECT {parsed}"}).fetchone()
    except (duckdb.Error, UnicodeError) as error:
        words = (
            '; names such as "end" that are words of SQL stand in double quotes'
            if re.search(r"\bend\b", text.lower())
            else ""
        )
        raise CurationError(f"{what}: {text!r} is no expression: {_line(error)}{words}") from error
    tree = json.loads(answer[0]) if answer else {}
    if tree.get("error") is not False:
        raise CurationError(f"{what}: {text!r} is no expression: {tree.get('error_message')}")
    return tree["statements"][0]["node"]["select_list"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree."""
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(child)


def _references(tree: Any) -> list[str]:
    """Names of columns; of a struct's field, the struct's."""
    return [str(n["column_names"][0]) for n in _nodes(tree) if n.get("class") == "COLUMN_REF"]


def _refused(connection: "DuckDBPyConnection", functions: set[str]) -> str:
    """The first of the functions that is not one of values, and why; empty where each is."""
    kinds: dict[str, set[tuple[str, str]]] = {}
    for name, kind, stability, zoned in connection.execute(
        "SELECT lower(function_name), function_type, stability, list_has_any(parameter_types, $zoned)"
        " FROM duckdb_functions()",
        {"zoned": _ZONED},
    ).fetchall():
        # what varies with the time zone alone, as the difference of two such times, does not vary: there is one zone
        varies = stability != "CONSISTENT" and not zoned
        kinds.setdefault(name, set()).add((kind, "VARIES" if varies or name in _OF_NOW else "CONSISTENT"))
    for name in sorted(functions & kinds.keys()):
        if all(kind == "table" for kind, _ in kinds[name]):
            if _READS_FILES.search(name):
                return f"{name}; functions that read files are not allowed"
            return f"{name}, which gives a table; give one expression over the columns of one clip"
        if ("scalar", "VARIES") in kinds[name]:
            return f"{name}, which is not the same on every run"
    return ""


def _is_number(kind: str) -> bool:
    whole = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "", "BIG", "HUGE")}
    return kind in whole | {"INTEGER", "UINTEGER", "FLOAT", "DOUBLE"} or kind.startswith("DECIMAL")


def _line(error: Exception) -> str:
    """The first paragraph of an error, without DuckDB's drawing of the place, as one line."""
    return " ".join(str(error).split("\n\nLINE ")[0].split()) or type(error).__name__
