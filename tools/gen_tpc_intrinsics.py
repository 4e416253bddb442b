"""Generates tpcgen/host/include/tpc/intrinsics.h from tpcgen/host/tpc_intrinsics.tsv.

Each intrinsic gets its exact signature and a body that calls its family in ops.h. Every definition is a template of
one defaulted parameter, so that a kernel pays only for what it calls. An intrinsic without a rule here is not declared:
using it is a compile error that names it. `--missing` lists those.

Usage: python tools/gen_tpc_intrinsics.py [--missing]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tpcgen/host/tpc_intrinsics.tsv"
HEADER = ROOT / "tpcgen/host/include/tpc/intrinsics.h"

T = r"(f32|bf16|f16|f8|h8|i32|u32|i16|u16|i8|u8|i1)"
SMALL_FLOATS = ("f8", "h8")
COMPARE = r"(eq|neq|less|leq|grt|geq)"
INDEX_OPS = {
    "add": "int32_t(uint32_t(x) + uint32_t(y))",
    "sub": "int32_t(uint32_t(x) - uint32_t(y))",
    "mul": "int32_t(uint32_t(x) * uint32_t(y))",
    "max": "x > y ? x : y",
    "min": "x < y ? x : y",
    "and": "x & y",
    "or": "x | y",
    "xor": "x ^ y",
    "shl": "I::shifted_left(x, y)",
    "shr": "I::shifted_right(x, y)",
}
INDEX_COMPARE = {"eq": "==", "neq": "!=", "less": "<", "leq": "<=", "grt": ">", "geq": ">="}


@dataclass(frozen=True)
class Param:
    type: str
    name: str
    default: str | None

    def text(self) -> str:
        type_ = re.sub(r"__global void \*$", "::tpc::rt_pointer", self.type).replace("__global ", "")
        default = "" if self.default is None else f"={self.default}"
        return f"{type_} {self.name}{default}"


@dataclass(frozen=True)
class Intrinsic:
    name: str
    ret: str
    params: tuple[Param, ...]
    targets: tuple[str, ...]

    @property
    def base(self) -> str:
        """Name without the predicate suffix."""
        return re.sub(r"_v?b$", "", self.name)

    def names(self) -> list[str]:
        return [param.name for param in self.params]

    def kind(self, name: str) -> str:
        return next(param.type for param in self.params if param.name == name)

    @property
    def vector_predicate(self) -> bool:
        return "predicate" in self.names() and self.kind("predicate") != "bool"

    @property
    def income(self) -> str:
        return "accumulator" if "accumulator" in self.names() else "income"


def parse(line: str) -> Intrinsic:
    name, ret, params, targets = line.split("\t")
    parsed: list[Param] = []
    for text in filter(None, (part.strip() for part in params.split(","))):
        declared, _, default = text.partition("=")
        match = re.fullmatch(r"(.*?[\s*])(\w+)\s*", declared.strip())
        assert match, f"{name}: {text}"
        parsed.append(Param(match[1].strip(), match[2], default.strip() or None))
    types = {ret, *(param.type for param in parsed)}
    # The table lists a few intrinsics of half and fp8 for gaudi, which has no such types.
    exist_on_gaudi = not any(re.search(r"half|mini", type_) for type_ in types)
    return Intrinsic(name, ret, tuple(parsed), tuple(t for t in targets.split(",") if t != "gaudi" or exist_on_gaudi))


Rule = Callable[[Intrinsic, "re.Match[str]"], str | None]
RULES: list[tuple[str, Rule]] = []


def rule(pattern: str) -> Callable[[Rule], Rule]:
    def add(function: Rule) -> Rule:
        RULES.append((pattern, function))
        return function

    return add


def simple(pattern: str, body: str) -> None:
    """A rule whose body is text; {R} is the return type, {0}, {1}, ... the groups of the pattern."""
    RULES.append((pattern, lambda row, match: body.format(*match.groups(default=""), R=row.ret)))


# --- arithmetic


@rule(rf"[sv]_{T}_(add|sub)")
def add_sub(row: Intrinsic, match: re.Match[str]) -> str:
    return f"I::{match[2]}{'_f8' if match[1] in SMALL_FLOATS else ''}(a, b, switches)"


simple(r"v_f32_(add|sub|mul)_x2(?:_svv)?", "I::{0}_x2(a, b, c, switches)")
simple(r"v_f32_mac_x2(?:_svv)?", "I::mac_x2(a, b, c, accumulator, switches)")
simple(r"v_f32_madd_x2(?:_svvv|_vvsv)?", "I::madd_x2(a, b, c, d, switches)")
simple(r"[sv]_(f32|bf16|f16)_mul", "I::mul_float(a, b, switches)")
simple(r"v_[iu]\d+_mul", "I::template mul_int<{R}>(a, b, switches)")
simple(r"s_[iu]\d+_mul", "I::template mul_int_s<{R}>(a, b, switches)")
simple(r"v_[iu]32_mul_round", "I::mul_round(a, b, switches)")
simple(rf"[sv]_{T}_mul_acc32", "I::template mul_wide<{R}>(a, b)")
simple(rf"[sv]_{T}_mac(?:_acc32|_acc16)?", "I::mac(a, b, accumulator, switches)")
simple(rf"[sv]_{T}_madd(?:_acc32|_acc16)?", "I::mac(a, b, c, switches)")
simple(r"v_[iu]8_mac_zp(?:_acc32|_acc16)?", "I::mac_zp(a, b, zp, accumulator, switches)")
simple(r"v_[iu]8_madd_zp(?:_acc32|_acc16)?", "I::mac_zp(a, b, zp, c, switches)")
simple(r"v_[iu]8_mac_x2(?:_acc32|_acc16)?", "I::mac_x2_int(a, b, c, d, accumulator, switches)")
simple(r"v_[iu]8_mac_x2_zp(?:_acc32|_acc16)?", "I::mac_x2_zp(a, b, c, d, zp, accumulator, switches)")
simple(r"v_[iu]\d+_msac", "I::msac(a, b, n1, n2, switches, income)")
simple(rf"[sv]_{T}_(max|min)", "I::{1}(a, b, switches)")
simple(rf"[sv]_{T}_abs", "I::abs(a, switches)")
simple(r"u32_udiv", "I::udiv(a, b, switches)")
simple(r"u(\d+)_udiv_both", "{R}{{I::udiv(a, b, SW_DIV_MODE_DIV), I::udiv(a, b, SW_DIV_MODE_MOD)}}")
simple(r"u(\d+)_udiv", "I::udiv(a, b, switches)")
simple(r"u\d+_udiv_4step", "I::udiv_4step(a, step, income)")

# --- compare and select

simple(rf"[sv]_{T}_cmp_{COMPARE}", "I::template cmp<typename I::{1}>(a, b, switches)")


@rule(rf"v_{T}_(sel2?)_{COMPARE}_{T}")
def select(row: Intrinsic, match: re.Match[str]) -> str | None:
    if "_" in row.kind("a"):
        return None  # v_i8_sel2_*_h8 takes pairs in the table
    return f"I::template {match[2]}<typename I::{match[3]}>(a, b, c, d, switches)"


# --- bits

simple(rf"[sv]_{T}_(and|or|xor)", "I::bit_{1}(a, b, switches)")
simple(rf"[sv]_{T}_not", "I::bit_not(a, switches)")
simple(rf"[sv]_{T}_(shl|shr|ash)", "I::{1}(a, b, switches)")
simple(rf"v_{T}_ash_rhaz", "I::ash_rhaz(a, b, switches)")
simple(rf"[sv]_{T}_(popcnt|find_first)", "I::{1}(a, switches)")
simple(rf"[sv]_{T}_brev", "I::template brev<{R}>(a, switches)")

# --- convert

simple(rf"s_convert_{T}_to_{T}", "I::template convert_scalar<{R}>(src, switches)")


@rule(rf"v_convert_{T}_to_{T}")
def convert_vector(row: Intrinsic, match: re.Match[str]) -> str:
    if "lane" in row.names():
        return f"I::template convert_lane<{row.ret}>(src, lane, switches, income)"
    return f"I::template convert_vec<{row.ret}>(src, switches)"


simple(rf"v_convert_{T}_to_{T}_single", "I::template convert_lane<{R}>(src, 0, switches, income)")
simple(rf"v_convert_{T}_to_{T}_all", "I::template convert_all<{R}>(src, switches)")
simple(rf"v_convert_{T}_to_{T}_x[24]", "I::template convert_registers<{R}>(src, switches)")
simple(r"convert_\w+_to_\w+", "I::template convert_high<{R}>(a, options)")
simple(r"s_convert_u?int\d+_to_[iu](?:8|16)", "I::template convert_int_scalar<{R}>(value, shift, switches)")
simple(
    r"v_convert_u?int\d+_to_[iu](?:8|16)(?:_single)?",
    "I::template convert_int_lane<{R}>(value, shift, lane, switches, income)",
)
simple(r"v_convert_u?int\d+_to_[iu](?:8|16)_all", "I::template convert_int_all<{R}>(value, shift, switches)")

# --- moves and lanes

simple(rf"v_{T}_mov(?:_x2)?", "I::mov(a, switches)")
simple(rf"s_{T}_mov", "I::mov(a, switches)")
simple(r"v_i1_mov_i1", "I::mov_broadcast(a)")
simple(r"v_i1_mov_u32", "I::mov_to_predicate(a)")
simple(r"v_u32_mov_i1", "I::mov_from_predicate(a)")
simple(r"v_i1_mov_flavor", "I::mov_flavor(a, flavor, income)")
simple(rf"v_{T}_shuffle", "I::shuffle(a, b, switches, income)")
simple(rf"v_{T}_mov_dual_group", "I::mov_dual_group(a, b, src_dg, dest_dg, switches, income)")
simple(rf"v_{T}_mov_dual_group_all", "I::mov_dual_group_all(a, b, sdg0, sdg1, sdg2, sdg3, switches, income)")
simple(rf"v_{T}_mov_group", "I::mov_group(a, b, switches, income)")
simple(rf"v_{T}_(pack|unpack)", "I::{1}(a, switches, income)")
simple(r"read_lane_id_[124]b", "I::template lane_id<{R}>()")
simple(r"read_lfsr", "I::read_lfsr(switches)")


@rule(r"write_lfsr")
def write_lfsr(row: Intrinsic, match: re.Match[str]) -> str:
    return f"I::write_lfsr(src{', I::on(predicate, polarity)' if row.vector_predicate else ''})"


simple(r"write_lfsr_s", "I::write_lfsr_s(src)")
simple(r"s_read_lfsr", "I::read_lfsr_s(switches)")

# --- parts of floating-point numbers

simple(rf"[sv]_{T}_extract_exp", "I::template extract_exp<{R}>(a, switches)")
simple(rf"[sv]_{T}_fclass", "I::fclass(a, switches)")
simple(rf"v_{T}_fclass_limit", "I::fclass_limit(a, b, c, switches)")
simple(rf"v_{T}_form_fp_num(_ie)?", "I::form_fp_num{1}(a, b, c, switches)")
simple(rf"[sv]_{T}_nearbyint", "I::nearbyint(a, switches)")
simple(rf"v_{T}_nearbyint_cnvrt", "I::template nearbyint_cnvrt<{R}>(a, switches)")


@rule(rf"[sv]_{T}_calc_fp_special")
def calc_fp_special(row: Intrinsic, match: re.Match[str]) -> str | None:
    return "I::calc_fp_special(src1, src2, switches, income)" if row.kind("src1") == row.ret else None


# --- lookup tables

simple(r"v_[fiu]32_lookup(|_1c|_2c)", "I::template lookup{0}<{R}>(a, fid, switches)")
simple(r"v_f32_get_lut_entry_and_interval_start", "I::lut_interval(src, shift, switches)")

# --- tensors


@rule(rf"v_{T}_(ld_tnsr(?:_low|_high|)(?:_partial)?)(_direct)?")
def load_tensor(row: Intrinsic, match: re.Match[str]) -> str:
    part = "size, offset, " if "partial" in match[2] else ""
    return f"I::template {match[2]}<{row.ret}>({place(match[3])}, {part}switches, income)"


@rule(rf"v_{T}_(st_tnsr(?:_low|_high|_partial|)(_rmw)?)(_direct)?")
def store_tensor(row: Intrinsic, match: re.Match[str]) -> str:
    how = ["rmw"] * bool(match[3]) + ["size", "offset"] * ("partial" in match[2])
    return f"I::{match[2]}({', '.join([place(match[4]), 'value', *how, 'switches'])})"


def place(direct: str | None) -> str:
    return "I::place(addr1, addr2)" if direct else "I::place(ndx, tensor)"


simple(rf"s_{T}_st_tnsr_s", "I::st_tnsr_s(ndx, tensor, value, switches)")
simple(rf"s_{T}_st_tnsr_s_rmw", "I::st_tnsr_s_rmw(ndx, tensor, value, rmw, switches)")

# --- memory by address

simple(r"gen_addr", "I::gen_addr(inx, tensor, switches)")
simple(rf"[sv]_{T}_ld_g", "I::template ld_g<{R}>(addr)")
simple(rf"[sv]_{T}_ld_g_inc", "I::template ld_g_inc<{R}>(addr, switches)")
simple(rf"v_{T}_ld_g_partial", "I::template ld_g_partial<{R}>(addr, size, offset, income)")
simple(rf"v_{T}_ld_g_inc_partial", "I::template ld_g_inc_partial<{R}>(addr, size, offset, switches, income)")
simple(rf"s_{T}_st_g", "I::st_g(addr, value)")
simple(rf"s_{T}_st_g_inc", "I::st_g_inc(addr, value, switches)")
simple(r"i_i32_ld_g", "I::ld_g_indices(addr, dimmask, income)")
simple(r"i_i32_ld_g_inc", "I::ld_g_indices_inc(addr, dimmask, switches, income)")
simple(rf"s_{T}_ld_l", "I::template ld_l<{R}>(addr, switches)")
simple(rf"s_{T}_st_l", "I::st_l(addr, value, switches)")


@rule(rf"v_{T}_ld_l_v(|_low|_high)")
def load_local(row: Intrinsic, match: re.Match[str]) -> str:
    part = {"": 0, "_low": 1, "_high": 2}[match[2]]
    return f"I::template ld_l_v<{row.ret}, {part}>(addr, income)"


@rule(rf"v_{T}_st_l_v(|_low|_high)")
def store_local(row: Intrinsic, match: re.Match[str]) -> str | None:
    part = {"": 0, "_low": 1, "_high": 2}[match[2]]
    if not row.vector_predicate:
        return f"I::template st_l_v<{part}>(addr, value)"
    if match[1] == "i1":
        return None
    return f"I::template st_l_v<{part}>(addr, value, I::bytes(I::on(predicate, polarity)))"


# --- index registers


@rule(rf"i_i32_({'|'.join(INDEX_OPS)})")
def index_operation(row: Intrinsic, match: re.Match[str]) -> str:
    return f"I::index_op(a, b, dimmask, income, [](int32_t x, int32_t y) {{ return {INDEX_OPS[match[1]]}; }})"


@rule(rf"i_i32_cmp_{COMPARE}")
def index_compare(row: Intrinsic, match: re.Match[str]) -> str:
    return f"I::index_cmp(a, b, dimmask, [](int32_t x, int32_t y) {{ return x {INDEX_COMPARE[match[1]]} y; }})"


simple(r"i_i32_not", "I::index_op(a, a, dimmask, income, [](int32_t x, int32_t) {{ return ~x; }})")
simple(r"i_i32_abs", "I::index_op(a, a, dimmask, income, [](int32_t x, int32_t) {{ return x < 0 ? -x : x; }})")
simple(r"i_i32_mov", "I::index_op(a, a, dimmask, income, [](int32_t x, int32_t) {{ return x; }})")
simple(r"set_indx", "I::index_op(int5(value), ndx, dimmask, ndx, [](int32_t x, int32_t) {{ return x; }})")
simple(r"mov_irf_dim", "src.v[dim]")
simple(r"prmt_indx", "I::permute(ndx, prmt_type)")

# --- descriptors and control

simple(r"get_dim_(size|stride)", "::tpcgen::rt::dim_{0}(a, dim)")
simple(r"set_dim_(size|stride)", "::tpcgen::rt::set_dim_{0}(a, dim, value)")
simple(r"get_pad_value_\w+", "I::template pad_value<{R}>(a)")
simple(r"set_pad_value_\w+", "I::set_pad_value(a, value)")
simple(r"aso|cache_flush|cache_invalidate", "")
simple(r"prefetch|event", "(void)a")
simple(r"get_tensor_hwpref_stride", "I::hardware_prefetch(tensor)")
simple(r"set_tensor_hwpref_stride", "I::hardware_prefetch(tensor) = value")
simple(r"get_addr", "I::address_words(addr)")
simple(r"update_addr", "I::update_addr(addr, value)")
simple(r"get_(semaphore|csr|convert_csr)_value", "I::{0}()")
simple(r"set_(semaphore|csr|convert_csr)_value", "I::{0}() = val")
simple(r"u?int_convert_u?(?:int|ushort)\d+_to_\w+", "I::template convert_int_all<{R}>(a, shift, options)")

FENCES = {
    "aso": "::tpcgen::rt::aso()",
    "cache_flush": "::tpcgen::rt::cache_flush()",
    "cache_invalidate": "::tpcgen::rt::cache_invalidate()",
}


def expression(row: Intrinsic) -> str | None:
    if row.name in FENCES:
        return FENCES[row.name]
    for pattern, make in RULES:
        if match := re.fullmatch(pattern, row.base):
            return make(row, match)
    return None


# Their value takes the predicate itself.
STORES_BY_LANE = re.compile(r"v_\w+_st_l_v(_low|_high)?_vb|write_lfsr_vb")


def body(row: Intrinsic) -> str | None:
    value = expression(row)
    if value is None:
        return None
    names = row.names()
    if row.ret == "void":
        if not row.vector_predicate:
            guard = "if (predicate == polarity) return; " if "predicate" in names else ""
            return f"{guard}{value};"
        return f"{value};" if STORES_BY_LANE.fullmatch(row.name) else None
    if "predicate" not in names:
        return f"return {value};"
    if row.vector_predicate:
        if row.income not in names or row.kind(row.income) != row.ret:
            return None  # four sel2 rows of the table contradict themselves
        return f"return I::blend(I::on(predicate, polarity), {value}, {row.income});"
    other = row.income if row.income in names else "ndx" if "ndx" in names else None
    if other == row.income and row.kind(other) != row.ret:
        other = f"::tpc::bits_as<{row.ret}>({other})"
    return None if other is None else f"if (predicate == polarity) return {other}; return {value};"


def declaration(row: Intrinsic, text: str) -> str:
    ret = "::tpc::rt_pointer" if row.ret == "__global void *" else row.ret
    params = ", ".join(param.text() for param in row.params)
    # A lookup in a table that is not public is refused by the table's number, known where the call is inlined.
    kind = "TPC_FN" if "_lookup" in row.name else "TPC_INTRINSIC"
    return f"template <class I = ::tpc::impl> {kind} {ret} {row.name}({params}) {{ {text} }}"


def rows() -> list[Intrinsic]:
    return [parse(line) for line in TABLE.read_text().splitlines()[1:]]


def header(table: list[Intrinsic]) -> str:
    lines = [
        "// Generated by tools/gen_tpc_intrinsics.py from tpcgen/host/tpc_intrinsics.tsv; do not edit.",
        "#pragma once",
        "",
        '#include "tpc/ops.h"',
        "",
    ]
    for targets, guard in (
        (("gaudi", "gaudi2"), None),
        (("gaudi",), "!defined(__gaudi2__)"),
        (("gaudi2",), "defined(__gaudi2__)"),
    ):
        chosen = [(row, text) for row in table if row.targets == targets and (text := body(row)) is not None]
        if guard:
            lines.append(f"#if {guard}")
        lines += [declaration(row, text) for row, text in chosen]
        if guard:
            lines.append("#endif")
    return "\n".join(lines) + "\n"


def main() -> None:
    table = rows()
    if "--missing" in sys.argv:
        print("\n".join(row.name for row in table if body(row) is None))
        return
    HEADER.write_text(header(table))


if __name__ == "__main__":
    main()
