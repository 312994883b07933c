"""As much of Lua as the clients of TSP instruments send: assignments, calls, expressions, ``for``, ``if``.

A chunk is compiled into closures and then run. There are no function definitions, table constructors, methods or
metatables: what is left out is a syntax error, as a typing mistake is. After the Lua 5.0 reference manual.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn, Protocol

SYNTAX_ERROR = -285
RUNTIME_ERROR = -286

REMEMBERED = 256
"""So many chunks are compiled once only: a client sends the same ones again and again."""

MOST_STEPS = 1_000_000
"""Statements that one chunk may run: a client must not hang the bench with an endless loop."""


class LuaError(Exception):
    """What ends a chunk: a code of the instrument's error queue and its text."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{code}, {text}")


class Table(Protocol):
    """Something with fields."""

    def index(self, key: Value) -> Value:
        """Value of a field; None when there is no such field."""

    def assign(self, key: Value, value: Value) -> None:
        """Set a field; raises LuaError."""


Function = Callable[["list[Value]"], "list[Value]"]
Value = float | str | bool | Table | Function | None


@dataclass
class Scope:
    """Local variables, and those around them; globals at the end."""

    variables: dict[str, Value]
    outer: Scope | None = None
    steps: list[int] = field(default_factory=lambda: [0])

    def inner(self) -> Scope:
        """A scope inside this one."""
        return Scope({}, self, self.steps)

    def holder(self, name: str) -> Scope:
        """The scope that has the variable; the global one when none has."""
        scope = self
        while name not in scope.variables and scope.outer is not None:
            scope = scope.outer
        return scope

    def step(self) -> None:
        """Count a statement; raises LuaError after too many."""
        self.steps[0] += 1
        if self.steps[0] > MOST_STEPS:
            raise LuaError(RUNTIME_ERROR, "TSP Runtime error at line 1: the script never ends")


@dataclass(frozen=True)
class Expression:
    """What gives values; a call may give any number of them, anything else gives one."""

    values: Callable[[Scope], list[Value]]
    is_call: bool = False
    assign: Callable[[Scope, Value], None] | None = None

    def value(self, scope: Scope) -> Value:
        """The first value; nil when there is none."""
        values = self.values(scope)
        return values[0] if values else None


Statement = Callable[[Scope], None]

_TOKEN = re.compile(
    r"(?P<space>\s+|--[^\n]*)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"""|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"|(?P<sign>==|~=|<=|>=|\.\.|[-+*/^<>=(),.;\[\]])",
    re.ASCII,
)
_KEYWORDS = {
    *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not"),
    *("or", "repeat", "return", "then", "true", "until", "while"),
}
_CONSTANTS: Mapping[str, Value] = {"nil": None, "true": True, "false": False}


def _truth(value: Value) -> bool:
    return value is not None and value is not False


def number(value: Value, doing: str) -> float:
    """A value that must be a number; raises LuaError."""
    if isinstance(value, bool) or not isinstance(value, float):
        raise LuaError(RUNTIME_ERROR, f"TSP Runtime error at line 1: attempt to {doing} a {kind(value)} value")
    return value


def kind(value: Value) -> str:
    """What Lua calls the type of a value."""
    names = ((bool, "boolean"), (float, "number"), (str, "string"))
    if value is None:
        return "nil"
    return next((name for of, name in names if isinstance(value, of)), "function" if callable(value) else "table")


def _divide(left: float, right: float) -> float:
    return left / right if right else math.nan


def _power(left: float, right: float) -> float:
    try:
        return math.pow(left, right)
    except (ValueError, OverflowError):
        return math.nan


_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "^": _power,
}
_COMPARISON: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_LEVELS = (("or",), ("and",), ("<", ">", "<=", ">=", "==", "~="), ("..",), ("+", "-"), ("*", "/"))
_UNARY_LEVEL = len(_LEVELS)


def _binary(sign: str, left: Expression, right: Expression) -> Expression:
    def values(scope: Scope) -> list[Value]:
        first = left.value(scope)
        if sign in ("and", "or"):
            return [right.value(scope) if _truth(first) == (sign == "and") else first]
        second = right.value(scope)
        if sign in ("==", "~="):
            return [(type(first) is type(second) and first == second) == (sign == "==")]
        if sign == "..":
            return [f"{_text(first)}{_text(second)}"]
        if sign in _COMPARISON:
            return [_COMPARISON[sign](number(first, "compare"), number(second, "compare"))]
        doing = "perform arithmetic on"
        return [_ARITHMETIC[sign](number(first, doing), number(second, doing))]

    return Expression(values)


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    return f"{number(value, 'concatenate'):g}"


class _Parser:
    def __init__(self, chunk: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(chunk):
            match = _TOKEN.match(chunk, place)
            if match is None:
                self._fail(chunk[place])
            place = match.end()
            if match.lastgroup != "space":
                assert match.lastgroup is not None
                self._tokens.append((match.lastgroup, match[0]))
        self._place = 0

    def chunk(self) -> Statement:
        body = self._block()
        if self._place < len(self._tokens):
            self._fail(self._next()[1])
        return body

    def _fail(self, near: str) -> NoReturn:
        raise LuaError(SYNTAX_ERROR, f"TSP Syntax error at line 1: unexpected symbol near `{near}'")

    def _peek(self) -> str:
        """The next sign or keyword; empty at the end and for anything else."""
        if self._place >= len(self._tokens):
            return ""
        group, text = self._tokens[self._place]
        return text if group == "sign" or text in _KEYWORDS else ""

    def _next(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            self._fail("<eof>")
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, *texts: str) -> bool:
        """Whether the next tokens are these; they are taken then."""
        if self._peek() not in texts or not self._peek():
            return False
        self._place += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(self._next()[1])

    def _name(self) -> str:
        group, text = self._next()
        if group != "name" or text in _KEYWORDS:
            self._fail(text)
        return text

    def _block(self) -> Statement:
        statements: list[Statement] = []
        while self._place < len(self._tokens) and self._peek() not in ("end", "else", "elseif"):
            if not self._take(";"):
                statements.append(self._statement())

        def run(scope: Scope) -> None:
            for statement in statements:
                scope.step()
                statement(scope)

        return run

    def _statement(self) -> Statement:
        if self._take("local"):
            return self._local()
        if self._take("for"):
            return self._for()
        if self._take("if"):
            return self._if()
        return self._assignment_or_call()

    def _local(self) -> Statement:
        names = [self._name()]
        while self._take(","):
            names.append(self._name())
        given = self._expressions() if self._take("=") else []

        def run(scope: Scope) -> None:
            values = _all_values(given, scope)
            for place, name in enumerate(names):
                scope.variables[name] = values[place] if place < len(values) else None

        return run

    def _for(self) -> Statement:
        name = self._name()
        self._expect("=")
        limits = self._expressions()
        self._expect("do")
        body = self._block()
        self._expect("end")
        if len(limits) not in (2, 3):
            self._fail("for")

        def run(scope: Scope) -> None:
            values = [number(limit.value(scope), "loop over") for limit in limits]
            at, last, by = values[0], values[1], values[2] if len(values) > 2 else 1.0
            while (at <= last) if by > 0 else (at >= last):
                inner = scope.inner()
                inner.step()
                inner.variables[name] = at
                body(inner)
                at += by

        return run

    def _if(self) -> Statement:
        branches: list[tuple[Expression, Statement]] = []
        otherwise: Statement | None = None
        while True:
            condition = self._expression()
            self._expect("then")
            branches.append((condition, self._block()))
            if self._take("elseif"):
                continue
            if self._take("else"):
                otherwise = self._block()
            self._expect("end")
            break

        def run(scope: Scope) -> None:
            for condition, body in branches:
                if _truth(condition.value(scope)):
                    body(scope.inner())
                    return
            if otherwise is not None:
                otherwise(scope.inner())

        return run

    def _assignment_or_call(self) -> Statement:
        targets = [self._suffixed()]
        if targets[0].is_call:
            call = targets[0]
            return lambda scope: _discard(call.values(scope))
        while self._take(","):
            targets.append(self._suffixed())
        self._expect("=")
        given = self._expressions()
        assigns = [target.assign for target in targets]
        if None in assigns:
            self._fail("=")

        def run(scope: Scope) -> None:
            values = _all_values(given, scope)
            for place, assign in enumerate(assigns):
                assert assign is not None
                assign(scope, values[place] if place < len(values) else None)

        return run

    def _expressions(self) -> list[Expression]:
        expressions = [self._expression()]
        while self._take(","):
            expressions.append(self._expression())
        return expressions

    def _expression(self, level: int = 0) -> Expression:
        if level == _UNARY_LEVEL:
            return self._unary()
        left = self._expression(level + 1)
        while (sign := self._peek()) in _LEVELS[level]:
            self._next()
            left = _binary(sign, left, self._expression(level + 1))
        return left

    def _unary(self) -> Expression:
        if self._take("-"):
            negated = self._unary()
            return Expression(lambda scope: [-number(negated.value(scope), "perform arithmetic on")])
        if self._take("not"):
            inverted = self._unary()
            return Expression(lambda scope: [not _truth(inverted.value(scope))])
        base = self._simple()
        return _binary("^", base, self._unary()) if self._take("^") else base

    def _simple(self) -> Expression:
        group, text = self._tokens[self._place] if self._place < len(self._tokens) else ("", "")
        constant: Value
        if group == "number":
            constant = float(text)
        elif group == "string":
            constant = re.sub(r"\\(.)", r"\1", text[1:-1])
        elif text in _CONSTANTS:
            constant = _CONSTANTS[text]
        else:
            return self._suffixed()
        self._place += 1
        return _constant(constant)

    def _suffixed(self) -> Expression:
        if self._take("("):
            inside = self._expression()
            self._expect(")")
            base, what = Expression(lambda scope: [inside.value(scope)]), "expression"
        else:
            what = self._name()
            base = _variable(what)
        while True:
            if self._take("."):
                what = self._name()
                base = _indexed(base, _constant(what), what)
            elif self._take("["):
                place = self._expression()
                self._expect("]")
                base = _indexed(base, place, "?")
            elif self._take("("):
                arguments = [] if self._peek() == ")" else self._expressions()
                self._expect(")")
                base = _called(base, arguments, what)
            else:
                return base


def _discard(values: Sequence[Value]) -> None:
    """A call as a statement: its values are of no use."""


def _all_values(expressions: Sequence[Expression], scope: Scope) -> list[Value]:
    """One value of each expression, and all those of the last."""
    values = [expression.value(scope) for expression in expressions[:-1]]
    return values + (expressions[-1].values(scope) if expressions else [])


def _constant(value: Value) -> Expression:
    return Expression(lambda scope: [value])


def _variable(name: str) -> Expression:
    def assign(scope: Scope, value: Value) -> None:
        scope.holder(name).variables[name] = value

    return Expression(lambda scope: [scope.holder(name).variables.get(name)], assign=assign)


def _indexed(base: Expression, key: Expression, name: str) -> Expression:
    def table(scope: Scope) -> Table:
        value = base.value(scope)
        if value is None or isinstance(value, (bool, float, str)) or callable(value):
            raise LuaError(
                RUNTIME_ERROR, f"TSP Runtime error at line 1: attempt to index field `{name}' (a {kind(value)} value)"
            )
        return value

    def assign(scope: Scope, value: Value) -> None:
        table(scope).assign(key.value(scope), value)

    return Expression(lambda scope: [table(scope).index(key.value(scope))], assign=assign)


def _called(base: Expression, arguments: Sequence[Expression], name: str) -> Expression:
    def values(scope: Scope) -> list[Value]:
        function = base.value(scope)
        if not callable(function):
            raise LuaError(
                RUNTIME_ERROR, f"TSP Runtime error at line 1: attempt to call `{name}' (a {kind(function)} value)"
            )
        return function(_all_values(arguments, scope))

    return Expression(values, is_call=True)


def run_chunk(chunk: str, variables: dict[str, Value]) -> None:
    """Compile and run a chunk.

    Args:
        chunk: Lua text.
        variables: the global variables; assignments to names that are not local land here.

    Raises:
        LuaError: the text is no Lua of this kind (nothing was run), or a statement failed (those before it were run).
    """
    _compiled(chunk)(Scope({}, Scope(variables)))


@lru_cache(REMEMBERED)
def _compiled(chunk: str) -> Statement:
    """A chunk, ready to run any number of times; raises LuaError -285."""
    return _Parser(chunk).chunk()
