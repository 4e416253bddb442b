"""What `tpcgen explain ID` says: one entry per diagnostic, in the order of ids.

`wrong` and `right` are whole files; tests check that `wrong` gives the diagnostic and `right` does not. `wrong` is empty
where no short text can show it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    id: str
    title: str
    text: str
    wrong: str = ""
    right: str = ""


def render_explanation(explanation: Explanation) -> str:
    """Plain text for a terminal."""
    parts = [f"{explanation.id}: {explanation.title}", explanation.text]
    if explanation.wrong:
        parts.append(f"Wrong:\n\n{_indented(explanation.wrong)}")
    if explanation.right:
        parts.append(f"Right:\n\n{_indented(explanation.right)}")
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.rstrip("\n").split("\n"))


SYNTAX = (
    Explanation(
        "E101",
        "the file is not UTF-8 text",
        "Specs are text in UTF-8. The diagnostic shows the first byte that is not.",
    ),
    Explanation(
        "E102",
        "a character the language does not use",
        "Outside comments a spec is made of ASCII letters, digits, `_`, brackets and operators. Mathematical signs are\n"
        "spelled in ASCII: `<=`, `>=`, `!=`, `*`, `sum[k](x)`, `and`, `or`, `not`.",
        "op keep(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = x[i] where x[i] ≤ y[i]\n}\n",
        "op keep(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = x[i] where x[i] <= y[i]\n}\n",
    ),
    Explanation(
        "E103",
        "a malformed number",
        "Integers are `12`, reals `0.5`, `1e-3` or `2.5e8`; both sides of a decimal point need digits. There are no other\n"
        "bases and no suffixes, and a product needs its `*`.",
        "fn half(x) = 2.*x\n",
        "fn half(x) = 2.0 * x\n",
    ),
    Explanation(
        "E104",
        "a word that cannot stand here",
        "What came before can go on only with the words that the diagnostic lists. If the caret is at the start of a\n"
        "line, look at the end of the line before.",
        "op double(x: f32[N]) -> y: f32[N]\n{\n    y[i] = 2 *\n}\n",
        "op double(x: f32[N]) -> y: f32[N]\n{\n    y[i] = 2 * x[i]\n}\n",
    ),
    Explanation(
        "E105",
        "a bracket that is not closed",
        "The bracket shown by the note was still open when a word came that cannot stand inside it.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = max(x[i], 0\n}\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = max(x[i], 0)\n}\n",
    ),
    Explanation(
        "E106",
        "a closing bracket that closes nothing",
        "No bracket of this kind is open here. One may have been closed too early.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i])\n}\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
    ),
    Explanation(
        "E107",
        "a block that is not closed",
        "The body of an op, a scan, a schedule and the values of a check stand in braces. A new item started, or the file\n"
        "ended, inside one.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n\ncheck small { N = 7 }\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n\ncheck small { N = 7 }\n",
    ),
    Explanation(
        "E108",
        "a reserved word used as a name",
        "Words with a meaning of their own cannot be names: use param dtype fn op vjp check wrt let index scan in reverse\n"
        "state schedule where sink and or not inf sum max min softmax logsumexp rank any all.",
        "op copy(state: f32[N]) -> y: f32[N]\n{\n    y[i] = state[i]\n}\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
    ),
    Explanation(
        "E109",
        "`=` where a comparison stands",
        "`=` defines a tensor, a size or an argument. A comparison for equality is `==`.",
        "op groups(x: f32[H], y: f32[G]) -> z: f32[H]\n    where H % G = 0\n{\n    z[h] = x[h] + y[h % G]\n}\n",
        "op groups(x: f32[H], y: f32[G]) -> z: f32[H]\n    where H % G == 0\n{\n    z[h] = x[h] + y[h % G]\n}\n",
    ),
    Explanation(
        "E110",
        "`==` where a definition stands",
        "`==` compares two values. A definition takes `=`.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] == x[i]\n}\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
    ),
    Explanation(
        "E111",
        "`:=` outside a scan",
        "`:=` gives a state its value of the next step and stands only in the body of a scan. Every other tensor is\n"
        "defined once, with `=`.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] := x[i]\n}\n",
        "op total(x: f32[N]) -> y: f32[N]\n{\n    scan t in 0 .. N {\n        state s[]: f32 = 0\n"
        "        s[] := s[] + x[t]\n        y[t] = s[]\n    }\n}\n",
    ),
    Explanation(
        "E112",
        "an expression assigned to a name without indices",
        "Without indices, only the outputs of an applied op are named: `A = window(Q, K, V)`. An equation says at which\n"
        "indices it holds: `A[i, j] = ...`, or `A[] = ...` for a scalar. A size is named with `let`.",
        "op add(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z = x + y\n}\n",
        "op add(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = x[i] + y[i]\n}\n",
    ),
    Explanation(
        "E113",
        "an index on the left side that is no name",
        "The left side of an equation names the indices at which it holds. To shift, shift where the tensor is read; to\n"
        "define single points, restrict the equation with `where`.",
        "op first(x: f32[N]) -> y: f32[N]\n{\n    y[0] = x[0]\n}\n",
        "op first(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i] where i == 0\n}\n",
    ),
    Explanation(
        "E114",
        "a reduction whose indices are no names",
        "In brackets after the reduction stand the names of the indices it runs over, then `where` and its domain, then\n"
        "`sink` and an extra logit: `softmax[k where k <= q sink s[h]](x[q,k])`.",
        "op prefix(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = sum[k <= i](x[k] * y[i])\n}\n",
        "op prefix(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = sum[k where k <= i](x[k] * y[i])\n}\n",
    ),
    Explanation(
        "E115",
        "a reduction without indices or parentheses",
        "A reduction is written `sum[k](x[k])`: the indices it runs over in brackets, what it reduces in parentheses.",
        "op total(x: f32[N]) -> y: f32[]\n{\n    y[] = sum(x)\n}\n",
        "op total(x: f32[N]) -> y: f32[]\n{\n    y[] = sum[i](x[i])\n}\n",
    ),
    Explanation(
        "E116",
        "reserved for later: in-place outputs",
        "`-> C: ... updates Kc` will name an output that takes the storage of an input. Today an output never aliases an\n"
        "input.",
        "op append(c: f32[N], x: f32[N]) -> d: f32[N] updates c\n{\n    d[i] = c[i] + x[i]\n}\n",
        "op append(c: f32[N], x: f32[N]) -> d: f32[N]\n{\n    d[i] = c[i] + x[i]\n}\n",
    ),
    Explanation(
        "E117",
        "a statement in the wrong place",
        "States are declared in the body of a scan. Scans do not nest, ops are applied to whole tensors outside scans, and\n"
        "the schedule stands in the op.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    state s[]: f32 = 0\n    y[i] = x[i]\n}\n",
        "op last(x: f32[N]) -> y: f32[N]\n{\n    scan t in 0 .. N {\n        state s[]: f32 = 0\n"
        "        s[] := x[t]\n        y[t] = s[]\n    }\n}\n",
    ),
    Explanation(
        "E118",
        "something other than an item outside ops",
        "A file holds `use`, `param`, `dtype`, `fn`, `op`, `vjp` and `check` items. Equations stand in the body of an op.",
        "y[i] = x[i]\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
    ),
    Explanation(
        "E119",
        "control flow",
        "The language has none. A choice per element is `select(condition, a, b)`; a choice per region is several\n"
        "equations on disjoint domains; a recurrence is a `scan`.",
        "op relu2(x: f32[N]) -> y: f32[N]\n{\n    if x[i] > 0 {\n        y[i] = x[i]\n    }\n}\n",
        "op relu2(x: f32[N]) -> y: f32[N]\n{\n    y[i] = select(x[i] > 0, x[i], 0)\n}\n",
    ),
    Explanation(
        "E120",
        "a stray semicolon",
        "Statements and items need no terminator: they end where the next one starts. Only the entries of a schedule end\n"
        "with `;`.",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i];\n}\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n    schedule { tile i 64; }\n}\n",
    ),
    Explanation(
        "E121",
        "two operands without an operator",
        "A product is written with `*`: `2 * x[i]`.",
        "op double(x: f32[N]) -> y: f32[N]\n{\n    y[i] = 2 x[i]\n}\n",
        "op double(x: f32[N]) -> y: f32[N]\n{\n    y[i] = 2 * x[i]\n}\n",
    ),
    Explanation(
        "E122",
        "`//` where a comment is meant",
        "`//` is division rounded down. A comment starts with `#` and ends with its line.",
        "// copies\nop copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
        "# copies\nop copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
    ),
    Explanation(
        "E123",
        "a literal that is too large",
        "Integers are i32 and reals f32. Write a large real with a point or an exponent, and infinity as `inf`.",
        "fn far(x) = x + 3000000000\n",
        "fn far(x) = x + 3e9\n",
    ),
    Explanation(
        "E124",
        "an expression nested too deeply",
        "An expression has at most 100 levels of operators and calls; a sum of 100 terms has 100. Name a part of it with an\n"
        "equation, or use a reduction.",
    ),
    Explanation(
        "E125",
        "a file that is too long",
        "A file has at most a million characters. Split it into several and name them with `use`.",
    ),
    Explanation(
        "E126",
        "an incomplete signature",
        "A tensor parameter is `Q: f32[B, H]`, an attribute `W: int = 256`, an output `-> O: f32[B, H]`, a scalar tensor\n"
        "`f32[]`. The parameters of a fn have no types.",
        "op copy(x[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
        "op copy(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i]\n}\n",
    ),
    Explanation(
        "E127",
        "a quoted path that is not closed",
        "The path of `use` stands in double quotes, on one line.",
        'use "window.dsl\n',
        'use "window.dsl"\n',
    ),
    Explanation(
        "E128",
        "an operator the language does not have",
        "There is no power operator, no assignment operators and no `<>`. Comparisons are < <= > >= == !=.",
        "op square(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i] ** 2\n}\n",
        "op square(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i] * x[i]\n}\n",
    ),
    Explanation(
        "E129",
        "`not` inside a comparison",
        "`not` binds weaker than a comparison, so it needs parentheses inside one.",
        "op odd(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = x[i] where x[i] == not y[i]\n}\n",
        "op odd(x: f32[N], y: f32[N]) -> z: f32[N]\n{\n    z[i] = x[i] where (x[i] > 0) == (not y[i] > 0)\n}\n",
    ),
    Explanation(
        "E130",
        "a second `where`",
        "An equation has one domain. Its conditions are joined with `and`.",
        "op keep(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i] where i > 0 where i < 7\n}\n",
        "op keep(x: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i] where i > 0 and i < 7\n}\n",
    ),
)
