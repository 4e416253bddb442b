"""Bugs planted in what the compiler makes are found: by the strict device or by the comparison with the interpreter.

A mistake in the mathematics is planted as another spec given to the compiler, the truth staying that of the right one;
a mistake in a kernel or its glue as an edit of the emitted text or of what the glue says. The same specs without a bug
pass with the same inputs. The default run plants some of the bugs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.device.harness import Built, Outcome, build, drawn, failures, judged
from tpcgen.emit.artifact import KernelText
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.kernel.access import ALL
from tpcgen.program import load_text
from tpcgen.program.ir import Program
from tpcgen.program.sizes import Value

CAUSAL = """op f(Q: {t}[B, H, M, D], K: {t}[B, G, N, D], V: {t}[B, G, N, E]) -> O: {t}[B, H, M, E]
    where M <= N, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}"""
WINDOW = """op f(Q: {t}[B, H, M, D], K: {t}[B, H, N, D], V: {t}[B, H, N, E], snk: f32[H], W: int = 9)
    -> O: {t}[B, H, M, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}"""
LENGTHS = """op f(Q: {t}[B, H, M, D], K: {t}[B, H, N, D], V: {t}[B, H, N, E], len: i32[B]) -> O: {t}[B, H, M, E] {
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k < len[b]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}"""
FUSED = WINDOW.replace("W: int = 9", "W: int = 60").replace("\n}", "\n    schedule { fuse k 24; }\n}")
Edit = Callable[[KernelText], KernelText]


@dataclass(frozen=True)
class Bug:
    """`spec` is compiled with `wrong` in the place of `right`, then emitted with `edit`. `found`: what must be said."""

    spec: str
    found: str
    right: str = ""
    wrong: str = ""
    edit: Edit | None = None
    dtype: str = "f32"
    plan: int = 0


def text(pattern: str, replacement: str) -> Edit:
    """Every occurrence in the kernel's text, of which there must be one."""

    def edit(kernel: KernelText) -> KernelText:
        changed, count = re.subn(pattern, replacement, kernel.text)
        assert count, f"{pattern} is not in the kernel any more:\n{kernel.text}"
        return replace(kernel, text=changed)

    return edit


def softmax_only(edit: Edit) -> Edit:
    return lambda kernel: edit(kernel) if kernel.stage.name == "softmax" else kernel


def attention_only(edit: Edit) -> Edit:
    return lambda kernel: edit(kernel) if kernel.stage.tile else kernel


def narrower(kernel: KernelText) -> KernelText:
    """The glue says that a member writes one row fewer than it does."""
    *inputs, output = kernel.glue.accesses
    axes = tuple(replace(a, end=a.end - 1) if a.end > a.start else a for a in output)
    assert axes != output
    return replace(kernel, glue=replace(kernel.glue, accesses=(*inputs, axes)))


def any_element(kernel: KernelText) -> KernelText:
    """The glue says nothing about which member writes what."""
    accesses = tuple(tuple(ALL for _ in axes) for axes in kernel.glue.accesses)
    return replace(kernel, glue=replace(kernel.glue, accesses=accesses))


def fewer_members(kernel: KernelText) -> KernelText:
    """Members for whole steps only: N // 4, not (N + 3) // 4."""
    first, *others = kernel.glue.index_space
    extent = first.extent
    assert extent.operator == "//" and extent.left.operator == "+"
    return replace(
        kernel,
        glue=replace(kernel.glue, index_space=(replace(first, extent=replace(extent, left=extent.left.left)), *others)),
    )


def both(*edits: Edit) -> Edit:
    def edit(kernel: KernelText) -> KernelText:
        for e in edits:
            kernel = e(kernel)
        return kernel

    return edit


VALUE = "the truth is|inconclusive"
BUGS = {
    # mathematics
    "mask_short_by_one": Bug(CAUSAL, VALUE, "k <= q + N - M", "k < q + N - M"),
    "mask_long_by_one": Bug(CAUSAL, VALUE, "k <= q + N - M", "k <= q + N - M + 1", dtype="bf16"),
    "mask_aligned_to_the_first_keys": Bug(CAUSAL, VALUE, "k <= q + N - M", "k <= q", plan=1),
    "window_long_by_one": Bug(WINDOW, VALUE, "q - W < k", "q - W <= k", dtype="bf16", plan=1),
    "sink_dropped": Bug(WINDOW, VALUE, " sink snk[h]", "", dtype="bf16"),
    "sink_of_another_head": Bug(WINDOW, VALUE, "snk[h]", "snk[H - 1 - h]"),
    "scale_missing": Bug(CAUSAL, VALUE, "rsqrt(D) * ", "", dtype="bf16"),
    "scale_of_another_size": Bug(CAUSAL, VALUE, "rsqrt(D)", "rsqrt(E)", plan=1),
    "key_head_interleaved": Bug(CAUSAL, VALUE, "h // R", "h % G", dtype="bf16"),
    "scores_stored_as_bf16": Bug(CAUSAL, VALUE, "S[b,h,q,k] =", "S[b,h,q,k]: bf16 =", dtype="bf16", plan=1),
    "f32_weights_stored_as_bf16": Bug(CAUSAL, VALUE, "P[b,h,q,k] =", "P[b,h,q,k]: bf16 =", plan=1),
    "stale_keys_visited": Bug(LENGTHS, VALUE, "[k where k < len[b]](S[b,h,q,k])", "[k](S[b,h,q,k])", dtype="bf16"),
    "mask_as_a_large_number": Bug(
        LENGTHS, VALUE, "[k where k < len[b]](S[b,h,q,k])", "[k](select(k < len[b], S[b,h,q,k], -1e30))"
    ),
    # kernels
    "tail_read_as_keys": Bug(
        LENGTHS, VALUE, edit=softmax_only(text(r"(v_i32_cmp_less_b\(lane[^,]*, [^)]*)\)", r"\1 + 1)"))
    ),
    "maximum_starts_at_zero": Bug(
        WINDOW, VALUE, edit=softmax_only(text(r"(row_max\w*(?:\.v\d)? = )MINUS_INFINITY", r"\g<1>0.0f"))
    ),
    "exp_off_in_the_fifth_digit": Bug(CAUSAL, VALUE, edit=text(r"-0\.6931472f", "-0.69316f")),
    "sum_rounded_to_bf16": Bug(
        CAUSAL,
        VALUE,
        edit=text(
            r"(sum[\w.]*) = (v_f32_add_v?b\(sum[^;]*\));", r"\1 = as_float64(v_i32_and_b(as_int64(\2), 0xFFFF0000));"
        ),
    ),
    "sum_over_the_wrong_lanes": Bug(CAUSAL, VALUE, edit=text(r"(v_f32_shuffle_b\(sum\w*, exchange_)4", r"\g<1>1")),
    "lanes_stored_in_another_order": Bug(
        LENGTHS,
        VALUE,
        edit=softmax_only(
            text(r"convert_float128_to_bfloat128\((\w+), SW_LINEAR\)", r"v_convert_f32_to_bf16_all_b(\1)")
        ),
        dtype="bf16",
    ),
    "row_written_twice": Bug(
        CAUSAL, "double_write", edit=both(text(r"for \(int h = piece_begin\[1\]", "for (int h = 0"), any_element)
    ),
    "rows_of_another_member_written": Bug(
        CAUSAL, "access_pattern", edit=text(r"for \(int h = piece_begin\[1\]", "for (int h = 0")
    ),
    "absent_weights_not_stored": Bug(CAUSAL, "unwritten", edit=text(r"v_f32_st_tnsr\(\w+, P, zero\);", "")),
    "older_sums_do_not_shrink": Bug(
        FUSED, VALUE, edit=attention_only(text(r"(shrink_\d+\.v\d) = shrink\[\d\]", r"\1 = 1.0f"))
    ),
    "last_key_of_a_tile_left_out": Bug(
        FUSED, VALUE, edit=attention_only(text(r"(keys_here = .*), 24\)", r"\1, 23)")), dtype="bf16"
    ),
    "values_of_the_next_key": Bug(
        FUSED, VALUE, edit=attention_only(text(r", tile, h, b, 0\}", ", tile + 1, h, b, 0}"))
    ),
    "band_not_tested_where_it_begins": Bug(
        FUSED, VALUE, edit=attention_only(text(r"(k = k_begin_\d+; k <) k_full;", r"\1 0;"))
    ),
    # glue
    "pattern_short_by_one_row": Bug(CAUSAL, "access_pattern", edit=narrower),
    "last_rows_without_a_member": Bug(CAUSAL, "unwritten", edit=fewer_members),
    "scalars_swapped": Bug(
        CAUSAL,
        VALUE + "|unwritten|access_pattern",
        edit=lambda k: replace(k, glue=replace(k.glue, scalars=_swapped(k.glue.scalars))),
    ),
}
QUICK = {
    "mask_long_by_one",
    "sink_dropped",
    "key_head_interleaved",
    "scores_stored_as_bf16",
    "stale_keys_visited",
    "tail_read_as_keys",
    "sum_rounded_to_bf16",
    "row_written_twice",
    "absent_weights_not_stored",
    "older_sums_do_not_shrink",
    "pattern_short_by_one_row",
    "last_rows_without_a_member",
}
CASES: tuple[dict[str, Value], ...] = (
    {"B": 2, "H": 4, "M": 7, "N": 70, "D": 16, "E": 24},
    {"B": 1, "H": 6, "M": 66, "N": 131, "D": 64, "E": 24},
)


def _swapped(scalars):
    values = [s.value for s in scalars if s.name in ("M", "N")]
    assert len(values) == 2
    return tuple(replace(s, value=values.pop()) if s.name in ("M", "N") else s for s in scalars)


def program(bug: Bug, *, sound: bool) -> Program:
    source = bug.spec.replace("{t}", bug.dtype)
    if not sound:
        assert bug.edit is not None or bug.right in source
        source = source.replace(bug.right, bug.wrong) if bug.right else source
    return load_text(source).program("f")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


@pytest.fixture(scope="module")
def faulty(
    request: pytest.FixtureRequest, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Built]]:
    """The bugs that this run asks for."""
    asked = [
        i.callspec.params["bug"] for i in request.session.items if i.path == request.path and "bug" in i.fixturenames
    ]
    programs = {name: program(bug, sound=False) for name, bug in BUGS.items() if name in asked}
    folder = tmp_path_factory.mktemp("faulty")

    def edit(name: str, kernel: KernelText) -> KernelText:
        change = BUGS[name].edit
        return kernel if change is None else change(kernel)

    return build(programs, folder, session, ("gaudi",), lambda name, _target, n: n == BUGS[name].plan, edit)


def outcomes(bug: Bug, built: list[Built]) -> Iterator[Outcome]:
    spec = program(bug, sound=True)
    for case in CASES:
        values = {**case, **({"G": 2} if "G" in spec.sizes else {}), **({"W": 9} if bug.spec is WINDOW else {})}
        for family in families(spec):
            yield from judged(built, values, drawn(spec, values, family), family, spec)


@pytest.mark.parametrize("bug", [pytest.param(n, marks=() if n in QUICK else pytest.mark.full) for n in BUGS])
def test_a_planted_bug_is_found(bug: str, faulty: dict[str, list[Built]]) -> None:
    found = [o.reason for o in outcomes(BUGS[bug], faulty[bug])]
    assert any(re.search(BUGS[bug].found, reason) for reason in found), found


@pytest.mark.full
def test_the_same_specs_pass_without_a_bug(session: Session, tmp_path: Path) -> None:
    kinds = {(b.spec, b.dtype): b for b in BUGS.values()}
    programs = {f"s{n}": program(b, sound=True) for n, b in enumerate(kinds.values())}
    built = build(programs, tmp_path, session, ("gaudi",))
    for name, bug in zip(programs, kinds.values(), strict=True):
        assert not failures(outcomes(bug, built[name]))
