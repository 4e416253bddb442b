"""A word that no rule accepts -> a diagnostic in the user's words. The first rule that knows the situation speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from lark.lexer import PatternStr

from tpcgen.diagnostics import Diagnostic, Label
from tpcgen.syntax import ast
from tpcgen.syntax.lexer import quote
from tpcgen.syntax.table import table
from tpcgen.syntax.words import END, Word

CLOSER = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
ITEM_STARTS = frozenset({"USE", "PARAM", "DTYPE", "FN", "OP", "VJP", "CHECK"})
STATEMENT_STARTS = frozenset({"LET", "INDEX", "SCAN", "SCHEDULE", "STATE"})
REDUCTIONS = frozenset({"SUM", "MAX", "MIN", "SOFTMAX", "LOGSUMEXP", "RANK", "ANY", "ALL"})

_CLOSERS = frozenset(CLOSER.values())
_BINARY = frozenset({"PLUS", "MINUS", "STAR", "SLASH", "FLOORDIV", "PERCENT", "AND", "OR"}) | frozenset(
    {"LESS", "LESSEQUAL", "GREATER", "GREATEREQUAL", "EQUAL", "UNEQUAL"}
)
_OPERAND_STARTS = frozenset({"NAME", "INT", "REAL", "INF", "LPAR"}) | REDUCTIONS
_EXPRESSION_STARTS = _OPERAND_STARTS | {"MINUS", "NOT"}
_ENDS_BRACKETS = _CLOSERS | ITEM_STARTS | STATEMENT_STARTS | {"ASSIGN", "UPDATE", "ARROW", "LBRACE", "WHERE", END}
"""Words that do not stand in round or square brackets, or close another one."""
_OPERANDS = (
    ast.Number,
    ast.Name,
    ast.Subscript,
    ast.Call,
    ast.Reduce,
    ast.Unary,
    ast.Binary,
    ast.Compare,
    ast.Logical,
    ast.Argument,
)
_CONTROL = frozenset({"if", "else", "elif", "for", "while", "return", "do", "switch"})
_ELSEWHERE = {
    "def": "fn",
    "func": "fn",
    "function": "fn",
    "kernel": "op",
    "import": "use",
    "include": "use",
    "const": "param",
    "from": "use",
}
"""What other languages call our items."""
_FORMS = {
    "USE": 'write `use "file.dsl"`',
    "VJP": "write `vjp f wrt Q, K`",
    "DTYPE": "write `dtype T in bf16, f32`",
    "INDEX": "write `index k in 0 .. N`",
    "SCAN": "write `scan t in 0 .. N { ... }`",
    "CHECK": "write `check small { N = 96, D = 64 }`",
    "SCHEDULE": "write `schedule { tile q 64; place S mme; }`",
    "PARAM": "write `param x: f32 = 0.5`",
}
"""Words that begin an item or a statement, and how it goes on."""
_NO_OPERATOR = {
    ("STAR", "STAR"): "write `x * x`, or `exp(y * log(x))`: there is no power operator",
    ("ASSIGN", "LESS"): "write `<=`",
    ("ASSIGN", "GREATER"): "write `>=`",
    ("LESS", "GREATER"): "write `!=`",
    ("EQUAL", "ASSIGN"): "write `==`",
    ("PLUS", "ASSIGN"): "write it out, in a scan: `S[i] := S[i] + x`",
    ("MINUS", "ASSIGN"): "write it out, in a scan: `S[i] := S[i] - x`",
    ("STAR", "ASSIGN"): "write it out, in a scan: `S[i] := S[i] * x`",
    ("SLASH", "ASSIGN"): "write it out, in a scan: `S[i] := S[i] / x`",
    ("SLASH", "STAR"): "a comment starts with `#` and ends with its line",
}
"""Pairs of words that stand side by side where another language has an operator, and what to write here."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the parser stopped: `words[position]` is not among the kinds `accepted`.

    `stack` holds the words and nodes that are not yet part of a larger node; `level` is the innermost rule being
    repeated: "item", "statement" (in an op), "step" (in a scan), or "" in a lone expression.
    """

    words: Sequence[Word]
    position: int
    stack: Sequence[Any]
    accepted: frozenset[str]
    level: str

    @property
    def found(self) -> Word:
        return self.words[self.position]

    @property
    def before(self) -> Word:
        """The word before; the first word itself where there is none."""
        return self.words[max(0, self.position - 1)]

    @property
    def opener(self) -> Word | None:
        """The innermost bracket that is still open."""
        closed = 0
        for value in reversed(self.stack):
            if not isinstance(value, Word):
                continue
            if value.type in _CLOSERS:
                closed += 1
            elif value.type in CLOSER and closed == 0:
                return value
            elif value.type in CLOSER:
                closed -= 1
        return None

    @property
    def opens(self) -> str:
        """The kind of the innermost bracket that is still open."""
        return self.opener.type if self.opener is not None else ""

    def ends_with(self, *kinds: str) -> bool:
        """Whether the stack ends with words of these kinds."""
        tail = self.stack[max(0, len(self.stack) - len(kinds)) :]
        return tuple(value.type if isinstance(value, Word) else "" for value in tail) == kinds

    def wants(self, *kinds: str) -> bool:
        """Whether exactly these kinds are accepted."""
        return self.accepted == frozenset(kinds)

    def starts_line(self, word: Word) -> bool:
        at = next(at for at, other in enumerate(self.words) if other is word)
        return first_on_line(self.words, at)


def first_on_line(words: Sequence[Word], at: int) -> bool:
    return at == 0 or words[at - 1].span.end_line < words[at].span.line


def starts_item(words: Sequence[Word], at: int) -> bool:
    """Whether an item starts at this word; a reserved word used as a name may look like that."""
    if words[at].type not in ITEM_STARTS or not first_on_line(words, at):
        return False
    follower = "STRING" if words[at].type == "USE" else "NAME"
    return words[at + 1].type == follower or at == 0 or words[at - 1].type == "RBRACE"


def complaint(situation: Situation) -> Diagnostic:
    """What is wrong, and what would be right."""
    diagnostics = (rule(situation) for rule in _RULES)
    return next((diagnostic for diagnostic in diagnostics if diagnostic), _unexpected(situation))


def _unexpected(s: Situation) -> Diagnostic:
    """On a later line than what it should continue, that is shown too."""
    message = f"expected {_wanted(s)}, found {_described(s.found)}"
    apart = s.position > 0 and first_on_line(s.words, s.position) and "OP" not in s.accepted
    labels = (Label(s.before.span, "after this"),) if apart or s.found.type == END else ()
    return Diagnostic("E104", message, s.found.span, _example(s), labels)


def _example(s: Situation) -> str:
    """How what was begun is written."""
    form = next((value.type for value in reversed(s.stack) if isinstance(value, Word) and value.type in _FORMS), "")
    match form, s.found.type:
        case "USE" | "VJP", _:
            return _FORMS[form]
        case "DTYPE" | "INDEX" | "SCAN", _ if s.accepted & {"IN", "RANGE"}:
            return _FORMS[form]
        case "FN", "LBRACE":
            return "a fn is one expression: `fn f(x) = x + 1`"
        case "CHECK" | "SCHEDULE" | "PARAM", _ if s.accepted & {"ASSIGN", "SEMICOLON"}:
            return _FORMS[form]
        case _, "LSQB" if s.before.type == "RSQB":
            return "all indices stand in one pair of brackets: `x[i, j]`"
        case _, _ if s.before.type == "COMMA" and s.found.type in _CLOSERS:
            return "remove the comma before it"
        case _:
            return ""


# Words written wrongly


def _mistyped_operator(s: Situation) -> Diagnostic | None:
    after = s.words[min(s.position + 1, len(s.words) - 1)]
    pairs = ((s.before, s.found), (s.found, after))
    pair = next((pair for pair in pairs if (pair[0].type, pair[1].type) in _NO_OPERATOR), None)
    if pair is None:
        return None
    first, second = pair
    if (first.span.end_line, first.span.end_column) != (second.span.line, second.span.column):
        return None
    hint = _NO_OPERATOR[first.type, second.type]
    return Diagnostic("E128", f"unknown operator `{first}{second}`", first.span.to(second.span), hint)


def _comment(s: Situation) -> Diagnostic | None:
    if s.found.type != "FLOORDIV" or not first_on_line(s.words, s.position):
        return None
    return Diagnostic("E122", f"expected {_wanted(s)}, found `//`", s.found.span, "a comment starts with `#`")


def _semicolon(s: Situation) -> Diagnostic | None:
    if s.found.type != "SEMICOLON":
        return None
    hint = "remove it: a statement ends where the next one starts; only the entries of a schedule end with `;`"
    return Diagnostic("E120", f"expected {_wanted(s)}, found `;`", s.found.span, hint)


def _comparison_by_assign(s: Situation) -> Diagnostic | None:
    if s.found.type != "ASSIGN" or "EQUAL" not in s.accepted:
        return None
    return Diagnostic("E109", "`=` defines, it does not compare", s.found.span, "write `==`")


def _assign_by_comparison(s: Situation) -> Diagnostic | None:
    if s.found.type != "EQUAL" or "ASSIGN" not in s.accepted:
        return None
    return Diagnostic("E110", "`==` compares, it does not define", s.found.span, "write `=`")


def _update_outside_scan(s: Situation) -> Diagnostic | None:
    if s.found.type != "UPDATE" or "ASSIGN" not in s.accepted:
        return None
    hint = "write `=`; inside a scan, `:=` gives a state, declared with `state S[i]: f32 = 0`, its next value"
    return Diagnostic("E111", "`:=` updates a state inside a scan", s.found.span, hint)


# What the language does not have


def _reserved_for_later(s: Situation) -> Diagnostic | None:
    if s.found != "updates" or not s.wants("COMMA", "LBRACE", "WHERE"):
        return None
    hint = "give the new tensor as an output of its own: an output never aliases an input"
    return Diagnostic("E116", "in-place outputs (`updates`) are reserved for later", s.found.span, hint)


def _control_flow(s: Situation) -> Diagnostic | None:
    word = s.before if s.before in _CONTROL else s.found
    if s.level not in ("statement", "step") or word not in _CONTROL:
        return None
    hint = "choose with `select(condition, a, b)` or equations on domains, `O[q] = a where q < n`; run with `scan`"
    return Diagnostic("E119", f"there is no control flow: {quote(word)}", word.span, hint)


# Constructs in the wrong place


def _outside_op(s: Situation) -> Diagnostic | None:
    if "OP" not in s.accepted or s.found.type == END or s.found.type in _CLOSERS:
        return None
    if s.found.type == "WHERE":
        hint = "contracts stand before the body: `-> O: f32[N] where N > 0 { ... }`"
        return Diagnostic("E118", "`where` stands outside an op", s.found.span, hint)
    if s.before.type in ("NAME", "RPAR", "RSQB") and not first_on_line(s.words, s.position):
        return None
    hint = "equations and other statements stand in the body of an op: `op f(x: f32[N]) -> y: f32[N] { ... }`"
    known = [*(kind.lower() for kind in sorted(ITEM_STARTS)), *_ELSEWHERE]
    for close in get_close_matches(s.found.lower(), known, n=1):
        hint = f"write `{_ELSEWHERE.get(close, close)}`"
    return Diagnostic("E118", f"expected {_wanted(s)}, found {_described(s.found)}", s.found.span, hint)


def _wrong_place(s: Situation) -> Diagnostic | None:
    inside = "in the body of a scan stand states, lets, equations, and updates `S[i] := x`"
    match s.level, s.found.type:
        case "statement", "STATE":
            hint = "write `scan t in 0 .. N { state S[d]: f32 = 0 ... }`"
            return Diagnostic("E117", "`state` stands inside a scan", s.found.span, hint)
        case "step", "SCAN" if "LET" in s.accepted:
            return Diagnostic("E117", "scans do not nest", s.found.span, inside)
        case "step", "SCHEDULE" if "LET" in s.accepted:
            return Diagnostic("E117", "`schedule` stands in an op, outside its scans", s.found.span, inside)
        case "step", "ASSIGN" | "COMMA" if s.wants("LSQB"):
            hint = "apply it to whole tensors before or after the scan; an equation names its indices, `A[] = x`"
            return Diagnostic("E117", "no op is applied inside a scan", s.found.span, hint)
        case _:
            return None


def _second_where(s: Situation) -> Diagnostic | None:
    if s.found.type != "WHERE" or "LET" not in s.accepted:
        return None
    begun = (value.type for value in reversed(s.stack) if isinstance(value, Word))
    match next((kind for kind in begun if kind in STATEMENT_STARTS | {"WHERE", "LBRACE"}), ""):
        case "WHERE":
            return Diagnostic("E130", "an equation has one domain", s.found.span, "join the conditions with `and`")
        case "LBRACE":
            hint = "write it where the result is read: `O[i] = A[i] where i < N`"
            return Diagnostic("E130", "an applied op has no domain", s.found.span, hint)
        case _:
            hint = "it follows the value: `O[i] = x[i] where i < N`"
            return Diagnostic("E130", "`where` belongs to an equation", s.found.span, hint)


# Brackets and blocks


def _unclosed_block(s: Situation) -> Diagnostic | None:
    if s.opener is None or s.opens != "LBRACE" or not (s.found.type == END or starts_item(s.words, s.position)):
        return None
    label = Label(s.opener.span, "this block is open")
    message = f"expected {_wanted(s)}, found {_described(s.found)}"
    return Diagnostic("E107", message, s.found.span, "close the block with `}`", (label,))


def _unclosed_bracket(s: Situation) -> Diagnostic | None:
    if s.opener is None or s.opens == "LBRACE" or CLOSER[s.opens] not in s.accepted:
        return None
    if s.found.type not in _ENDS_BRACKETS and not first_on_line(s.words, s.position):
        return None
    closer = _text(CLOSER[s.opens])
    label = Label(s.opener.span, f"this `{s.opener}` is open")
    message = f"expected {_wanted(s)}, found {_described(s.found)}"
    return Diagnostic("E105", message, s.found.span, f"close it with `{closer}`", (label,))


def _closes_nothing(s: Situation) -> Diagnostic | None:
    if s.found.type not in _CLOSERS or (s.opener is not None and CLOSER[s.opens] == s.found.type):
        return None
    if s.opener is not None and s.opens != "LBRACE":
        return None
    hint = "remove it, or look for a bracket that was closed too early"
    return Diagnostic("E106", f"`{s.found}` closes nothing", s.found.span, hint)


# Names


def _reserved_word(s: Situation) -> Diagnostic | None:
    if s.found.type == "LSQB" and s.before.type in ITEM_STARTS | STATEMENT_STARTS:
        return Diagnostic("E108", f"`{s.before}` is a reserved word", s.before.span, "choose another name")
    is_keyword = s.found.isalpha() and s.found.type not in ("NAME", END)
    if not is_keyword or "NAME" not in s.accepted:
        return None
    if "INT" in s.accepted and s.found.type == "NOT":
        hint = "`not` binds weaker than a comparison: write `(not x)`"
        return Diagnostic("E129", f"expected {_wanted(s)}, found `not`", s.found.span, hint)
    leaves_a_gap = s.found.type in ("WHERE", "SINK", "AND", "OR", "IN", "REVERSE")
    starts_next = starts_item(s.words, s.position) or (
        s.found.type in STATEMENT_STARTS
        and first_on_line(s.words, s.position)
        and s.words[s.position + 1].type in ("NAME", "LBRACE")
    )
    if ("INT" in s.accepted and leaves_a_gap) or starts_next:
        return None
    return Diagnostic("E108", f"`{s.found}` is a reserved word", s.found.span, "choose another name")


def _whole_tensor(s: Situation) -> Diagnostic | None:
    after_name = s.ends_with("ASSIGN", "NAME") and s.wants("LPAR")
    after_assign = s.ends_with("ASSIGN") and s.wants("NAME")
    if s.level != "statement" or not (after_name or after_assign):
        return None
    hint = "an equation names its indices: `A[i, j] = x[i] + y[j]`, or `A[] = ...` for a scalar"
    message = "only the outputs of an op are assigned without indices, as in `A = window(Q, K, V)`"
    value = s.before if after_name else s.found
    return Diagnostic("E112", message, value.span, hint)


def _target_index(s: Situation) -> Diagnostic | None:
    if s.level not in ("statement", "step") or s.opens != "LSQB" or s.found.type in _CLOSERS | {"ASSIGN", END}:
        return None
    after_name = s.wants("COMMA", "RSQB") and s.ends_with("NAME")
    if not (s.wants("NAME", "RSQB") or after_name or (s.wants("NAME") and not _in_reduction(s))):
        return None
    message = f"an index on the left side is a plain name, found {_described(s.found)}"
    hint = "define the tensor at every index; shift where it is read, or restrict with `where`: `O[q] = x where q == 0`"
    return Diagnostic("E113", message, s.found.span, hint)


# Reductions


def _in_reduction(s: Situation) -> bool:
    at = next((at for at, word in enumerate(s.words) if word is s.opener), 0)
    return at > 0 and s.words[at - 1].type in REDUCTIONS


def _reduction_indices(s: Situation) -> Diagnostic | None:
    if s.opens != "LSQB" or not _in_reduction(s) or s.found.type in ("RPAR", "RBRACE", "ASSIGN", END):
        return None
    if s.wants("NAME") and s.found.type == "RSQB":
        hint = "name the indices it runs over: `sum[k](x[k])`"
        return Diagnostic("E114", "a reduction needs an index", s.found.span, hint)
    if not (s.wants("NAME") or s.wants("COMMA", "WHERE", "SINK", "RSQB")):
        return None
    message = f"expected {_wanted(s)}, found {_described(s.found)}"
    hint = "the indices of a reduction are names; conditions follow `where`: `sum[i, j where i < j](x)`"
    return Diagnostic("E114", message, s.found.span, hint)


def _reduction_form(s: Situation) -> Diagnostic | None:
    message = f"expected {_wanted(s)}, found {_described(s.found)}"
    if s.before.type in REDUCTIONS and "LSQB" in s.accepted:
        hint = f"a reduction names the indices it runs over: `{s.before}[k](x[k])`"
        return Diagnostic("E115", message, s.found.span, hint)
    if s.before.type == "RSQB" and s.wants("LPAR"):
        hint = "what a reduction runs over stands in parentheses: `sum[k](x[k] * y[k])`"
        return Diagnostic("E115", message, s.found.span, hint)
    return None


# Signatures


def _signature(s: Situation) -> Diagnostic | None:
    if s.level != "item":
        return None
    message = f"expected {_wanted(s)}, found {_described(s.found)}"
    if s.wants("NAME") and s.before.type == "COLON":
        hint = "a tensor has a dtype: `Q: f32[B, H]`; an attribute too: `W: int`"
        return Diagnostic("E126", message, s.found.span, hint)
    if s.found.type == "COLON" and s.opens == "LPAR" and not s.wants("COLON"):
        return Diagnostic("E126", message, s.found.span, "the parameters of a fn are scalars and have no type")
    if s.wants("COLON") and s.ends_with("PARAM", "NAME"):
        return Diagnostic("E126", message, s.found.span, f"write `param {s.before}: f32 = 0.5`, or `: int`")
    if s.wants("COLON") and s.opens != "LPAR":
        return Diagnostic("E126", message, s.found.span, f"an output is a tensor: `{s.before}: f32[N]`")
    if s.wants("COLON"):
        hint = f"write `{s.before}: f32[N]` for a tensor, `{s.before}: int = 1` for an attribute"
        return Diagnostic("E126", message, s.found.span, hint)
    if s.wants("ARROW"):
        return Diagnostic("E126", message, s.found.span, "an op names its outputs: `-> O: f32[B, N]`")
    if s.wants("LSQB") and s.before.type == "NAME":
        hint = f"an output is a tensor: `{s.before}[N]`, or `{s.before}[]` for a scalar"
        return Diagnostic("E126", message, s.found.span, hint)
    return None


# Operators


def _missing_operator(s: Situation) -> Diagnostic | None:
    """Two operands in a row; in the body of an op the second one looks like the start of a statement."""
    hint = "a product is written with `*`"
    after_operand = bool(s.accepted & _BINARY) or isinstance(s.stack[-1] if s.stack else None, _OPERANDS)
    if s.found.type in _OPERAND_STARTS and after_operand:
        comma = " or `,`" if "COMMA" in s.accepted else ""
        return Diagnostic("E121", f"expected an operator{comma} before {_described(s.found)}", s.found.span, hint)
    second = _target_name(s)
    if second is None or s.starts_line(second):
        return None
    return Diagnostic("E121", f"expected an operator before {_described(second)}", second.span, hint)


def _target_name(s: Situation) -> Word | None:
    """The name with which a statement has just started, `x` or `x[i, j]`, when no `=` follows."""
    if s.level not in ("statement", "step") or "ASSIGN" not in s.accepted:
        return None
    names = [value for value in s.stack if isinstance(value, Word) and value.type == "NAME"]
    if s.ends_with("NAME"):
        return names[-1]
    if not s.ends_with("RSQB"):
        return None
    opening = max(at for at, value in enumerate(s.stack) if isinstance(value, Word) and value.type == "LSQB")
    return s.stack[opening - 1]


_RULES = (
    _mistyped_operator,
    _comment,
    _semicolon,
    _reserved_for_later,
    _control_flow,
    _wrong_place,
    _second_where,
    _unclosed_block,
    _outside_op,
    _reserved_word,
    _comparison_by_assign,
    _assign_by_comparison,
    _update_outside_scan,
    _reduction_form,
    _reduction_indices,
    _target_index,
    _whole_tensor,
    _signature,
    _unclosed_bracket,
    _closes_nothing,
    _missing_operator,
)


# Words for kinds of words


def _wanted(s: Situation) -> str:
    """The accepted kinds as the user would say them: "an operator, `,` or `]`"."""
    kinds = set(s.accepted)
    said: list[str] = []

    def say(phrase: str, group: frozenset[str]) -> None:
        said.append(phrase)
        kinds.difference_update(group)

    if "OP" in kinds:
        say("`op`, `fn`, `check` or another item", ITEM_STARTS)
    if "LET" in kinds:
        say("a statement", STATEMENT_STARTS | {"NAME"})
    if kinds >= {"NAME", "INT", "LPAR"}:
        say("an expression", _EXPRESSION_STARTS)
    if kinds & _BINARY:
        say("an operator", _BINARY)
    if len(kinds | set(said)) > 1:
        kinds.discard(END)
    said += [_kind(kind) for kind in sorted(kinds, key=_order)]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"


def _kind(kind: str) -> str:
    named = {"NAME": "a name", "INT": "a number", "STRING": "a path in quotes", END: "the end of the file"}
    return named.get(kind) or f"`{_text(kind)}`"


def _order(kind: str) -> tuple[bool, str]:
    return kind in _CLOSERS, kind


def _text(kind: str) -> str:
    pattern = table().get_terminal(kind).pattern
    assert isinstance(pattern, PatternStr), kind
    return pattern.value


def _described(word: Word) -> str:
    return "the end of the file" if word.type == END else quote(word)
