"""What the host build must know of a TPC-C text beyond compiling it: file-scope variables, recursion, and what is done
with pointers to global memory, which are plain pointers to the host's compiler.

Works on preprocessed text, by tokens: declarations at file scope, the call graph and names of pointers need no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_TOKEN = re.compile(
    r"""(?P<space>[ \t\f\v\r]+)|(?P<newline>\n)|(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<word>[A-Za-z_]\w*)|(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_LINEMARKER = re.compile(r'#\s*(?:line\s+)?(\d+)\s+"((?:\\.|[^"\\])*)"')
_OPEN = {"(": ")", "[": "]", "{": "}"}
_NOT_VARIABLES = frozenset({"typedef", "extern", "using", "template", "namespace", "static_assert", "_Static_assert"})


@dataclass(frozen=True, slots=True)
class LocalVariable:
    """A variable at file scope: local memory on the device. `initialised`: const or with an initialiser."""

    name: str
    initialised: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the text, where it starts, and the names it calls."""

    name: str
    file: str
    line: int
    calls: frozenset[str]


POST_INCREMENT = "no increment on gaudi"


@dataclass(frozen=True, slots=True)
class Misuse:
    """What TPC-C has no operation for, done with the pointer to global memory `name`."""

    name: str
    what: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Scan:
    locals: tuple[LocalVariable, ...]
    functions: tuple[Function, ...]
    misuses: tuple[Misuse, ...] = ()

    def recursion(self) -> tuple[Function, ...]:
        """The functions of one cycle in the call graph, empty if there is none."""
        known = {f.name: f for f in self.functions}
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
            if name in path:
                return path[path.index(name) :]
            if name in done or name not in known:
                return ()
            for callee in sorted(known[name].calls & known.keys()):
                if cycle := visit(callee, (*path, name)):
                    return cycle
            done.add(name)
            return ()

        for function in self.functions:
            if cycle := visit(function.name, ()):
                return tuple(known[name] for name in cycle)
        return ()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    file: str
    line: int
    is_word: bool


@dataclass
class _Declaration:
    head: list[_Token] = field(default_factory=list[_Token])
    body: list[_Token] = field(default_factory=list[_Token])


def scan(preprocessed: str) -> Scan:
    """Variables and functions at file scope of `preprocessed`, the output of the compiler's -E."""
    variables: list[LocalVariable] = []
    functions: list[Function] = []
    misuses: list[Misuse] = []
    for declaration in _declarations(_tokens(preprocessed)):
        if not declaration.head:
            continue
        name = _function_name(declaration.head)
        if name is None:
            variables += _variables(declaration)
            misuses += [
                Misuse(p.text, "not at file scope or in a struct", p.file, p.line)
                for p in _global_pointers(declaration.head)
            ]
        elif declaration.body:
            functions.append(Function(name.text, name.file, name.line, frozenset(_calls(declaration.body))))
            misuses += _misuses([*declaration.head, *declaration.body])
    return Scan(tuple(variables), tuple(functions), tuple(misuses))


def _tokens(text: str) -> Iterator[_Token]:
    file, line, at_start, position = "", 1, True, 0
    while position < len(text):
        if at_start and (end := _directive_end(text, position)) is not None:
            if marker := _LINEMARKER.match(text, position):
                file, line = marker[2], int(marker[1]) - 1
            line += text.count("\n", position, end)
            position = end
            continue
        match = _TOKEN.match(text, position)
        assert match is not None
        position = match.end()
        kind, token = match.lastgroup, match[0]
        at_start = kind == "newline" or (at_start and kind == "space")
        line += token.count("\n")
        if kind in ("word", "number", "string", "other"):
            yield _Token(token, file, line, kind == "word")


def _directive_end(text: str, position: int) -> int | None:
    """Where the preprocessor line that starts at `position` ends, continuation lines included; None if it is none."""
    if not text[position : position + 200].lstrip(" \t").startswith("#"):
        return None
    end = text.find("\n", position)
    while end > 0 and text[end - 1] == "\\":
        end = text.find("\n", end + 1)
    return len(text) if end < 0 else end + 1


def _declarations(tokens: Iterable[_Token]) -> Iterator[_Declaration]:
    """Splits at file-scope semicolons and after function bodies. A brace group of an initialiser stays in the head."""
    current, depth = _Declaration(), 0
    in_body = False
    for token in tokens:
        if in_body:
            depth += (token.text == "{") - (token.text == "}")
            current.body.append(token)
            if depth == 0:
                yield current
                current, in_body = _Declaration(), False
            continue
        if depth == 0 and token.text == ";":
            yield current
            current = _Declaration()
            continue
        if depth == 0 and token.text == "{" and _function_name(current.head) is not None:
            current.body.append(token)
            in_body, depth = True, 1
            continue
        depth += (token.text in _OPEN) - (token.text in _OPEN.values())
        current.head.append(token)
    if current.head:
        yield current


def _function_name(head: Sequence[_Token]) -> _Token | None:
    """The name before the first top-level parenthesis, if no initialiser or array bound comes first."""
    plain = list(_without_attributes(head))
    for before, token in pairwise(plain):
        if before.text in ("=", "[", "{"):
            return None
        if token.text == "(":
            return before if before.is_word else None
    return None


def _without_attributes(tokens: Sequence[_Token]) -> Iterator[_Token]:
    depth, skipping = 0, False
    for token in tokens:
        if token.text in ("__attribute__", "__declspec", "alignas", "_Alignas"):
            skipping = True
            continue
        if skipping:
            depth += (token.text == "(") - (token.text == ")")
            skipping = depth > 0
            continue
        yield token


def _variables(declaration: _Declaration) -> Iterator[LocalVariable]:
    tokens = list(_without_attributes(declaration.head))
    if not tokens or tokens[0].text in _NOT_VARIABLES:
        return
    is_const = any(t.text in ("const", "constexpr") for t in tokens)
    for group in _split_commas(tokens):
        name: _Token | None = None
        initialised = is_const
        depth = 0
        for token in group:
            if depth == 0 and token.text == "=":
                initialised = True
                break
            if token.text in _OPEN:
                depth += 1
            elif token.text in _OPEN.values():
                depth -= 1
            elif depth == 0 and token.is_word:
                name = token
        if name is not None and name is not tokens[0] and not _is_type_only(tokens, name):
            yield LocalVariable(name.text, initialised)


def _is_type_only(tokens: Sequence[_Token], name: _Token) -> bool:
    """`struct S { ... };` and `enum E { ... };` declare a type and no variable."""
    return tokens[0].text in ("struct", "union", "enum") and len(tokens) > 1 and name is tokens[1]


def _split_commas(tokens: Sequence[_Token]) -> Iterator[list[_Token]]:
    group: list[_Token] = []
    depth = 0
    for token in tokens:
        depth += (token.text in _OPEN) - (token.text in _OPEN.values())
        if depth == 0 and token.text == ",":
            yield group
            group = []
        else:
            group.append(token)
    yield group


def _calls(body: Sequence[_Token]) -> Iterator[str]:
    for token, following in pairwise(body):
        if token.is_word and following.text == "(":
            yield token.text


def _global_pointers(tokens: Sequence[_Token]) -> Iterator[_Token]:
    """The names declared as pointers to global memory: the word behind each star of such a declaration."""
    for at, token in enumerate(tokens):
        if token.text not in ("__global__", "__global"):
            continue
        for star, name in pairwise(tokens[at + 1 :]):
            if name.text == ")" or star.text in ("=", ";", ")"):
                break
            if star.text == "*" and name.is_word and name.text not in ("const", "restrict"):
                yield name


def _misuses(tokens: Sequence[_Token]) -> Iterator[Misuse]:
    """Arithmetic on, comparison, indexing and arrays of pointers to global memory, in one function."""
    declared = list(_global_pointers(tokens))
    names = {token.text for token in declared}
    for at, token in enumerate(tokens):
        if not token.is_word or token.text not in names:
            continue
        before = "".join(t.text for t in tokens[max(0, at - 2) : at])
        after = "".join(t.text for t in tokens[at + 1 : at + 3])
        if after.startswith("["):
            what = "no arrays of them" if any(token is d for d in declared) else "no index"
        elif after == "++":
            what = POST_INCREMENT
        elif after[:1] in ("+", "-") or before[-1:] in ("+", "-"):
            what = "no arithmetic"
        elif (
            after[:2] in ("==", "!=")
            or after[:1] in ("<", ">")
            or before[-2:] in ("==", "!=")
            or before[-1:] in ("<", ">")
        ):
            what = "no comparison"
        else:
            continue
        yield Misuse(token.text, what, token.file, token.line)
