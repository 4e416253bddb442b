"""Vector operations as TPC-C calls, within the rules of toolchain.md section 1: no lane access, no vector operators."""

from __future__ import annotations

from collections.abc import Container, Sequence

from tpcgen.kernel.c_text import Lines, integer, number
from tpcgen.kernel.ir import (
    NARROWING,
    ROUNDING,
    WIDENING,
    Imm,
    Kernel,
    Lanes,
    Operand,
    Reg,
    Scalar,
    VectorOp,
    VType,
    on_both_parts,
)
from tpcgen.program.ir import Attr

_TYPES = {
    (VType.F32, 1): "float64",
    (VType.F32, 2): "float128",
    (VType.I32, 1): "int64",
    (VType.I32, 2): "int128",
    (VType.BF16, 1): "bfloat128",
    (VType.F16, 1): "half128",
    (VType.I16, 1): "short128",
    (VType.PRED16, 1): "bool128",
    (VType.PRED, 1): "bool64",
    (VType.PRED, 2): "bool64",
    (VType.CTRL, 1): "uchar256",
}
_SIMPLE = {
    "add": "v_f32_add", "sub": "v_f32_sub", "mul": "v_f32_mul", "max": "v_f32_max", "min": "v_f32_min",
    "abs": "v_f32_abs", "mov": "v_f32_mov", "imov": "v_i32_mov",
    "sel_less": "v_f32_sel_less_f32", "sel_leq": "v_f32_sel_leq_f32", "sel_grt": "v_f32_sel_grt_f32",
    "sel_geq": "v_f32_sel_geq_f32", "sel_eq": "v_f32_sel_eq_f32",
    "cmp_less": "v_f32_cmp_less", "cmp_leq": "v_f32_cmp_leq", "cmp_grt": "v_f32_cmp_grt",
    "cmp_geq": "v_f32_cmp_geq", "cmp_eq": "v_f32_cmp_eq", "cmp_neq": "v_f32_cmp_neq",
    "icmp_less": "v_i32_cmp_less", "icmp_leq": "v_i32_cmp_leq", "icmp_grt": "v_i32_cmp_grt",
    "icmp_geq": "v_i32_cmp_geq", "icmp_eq": "v_i32_cmp_eq", "icmp_neq": "v_i32_cmp_neq",
    "iadd": "v_i32_add", "isub": "v_i32_sub", "imin": "v_i32_min", "imax": "v_i32_max",
    "ishl": "v_i32_shl", "ishr": "v_i32_shr", "iand": "v_i32_and", "ior": "v_i32_or",
    "itof": "v_convert_i32_to_f32", "bmax": "v_bf16_max", "bmin": "v_bf16_min",
    "babs": "v_bf16_abs", "bmov": "v_bf16_mov",
    **{f"bsel_{c}": f"v_bf16_sel_{c}_bf16" for c in ("less", "leq", "grt", "geq", "eq")},
    **{f"bcmp_{c}": f"v_bf16_cmp_{c}" for c in ("less", "leq", "grt", "geq", "eq", "neq")},
    **{f"hcmp_{c}": f"v_i16_cmp_{c}" for c in ("less", "leq", "grt", "geq", "eq", "neq")},
}  # fmt: skip
_X2 = {"add": "v_f32_add_x2_b", "sub": "v_f32_sub_x2_b", "mul": "v_f32_mul_x2_b"}
_BIT_CASTS = {"bits": "as_int64", "unbits": "as_float64"}
_NOTHING = "0.0f"
"""What lanes hold that an operation leaves out, where it leaves out none: another register would be copied first, as
the instruction writes over it.
"""
_HALVES = {
    "first_near": ("0, 0, 0, 2", "0, 3, 0, 3"),
    "second_near": ("1, 0, 3, 0", "3, 0, 3, 0"),
    "first_far": ("0, 0, 0, 1", "0, 0, 3, 3"),
    "second_far": ("2, 3, 0, 0", "3, 3, 0, 0"),
}
"""Dual groups that are moved, and which of them are written."""
_SWAPPED_DUAL_GROUPS = {"swap_dual_groups_near": "1, 0, 3, 2", "swap_dual_groups_far": "2, 3, 0, 1"}
BUTTERFLY = """\
#define ALL_DUAL_GROUPS MkWrA(3, 3, 3, 3)
#define ALL_GROUPS (SW_GROUP0_EN | SW_GROUP1_EN | SW_DUAL_GROUP0_EN | SW_DUAL_GROUP1_EN | SW_DUAL_GROUP2_EN | \\
                    SW_DUAL_GROUP3_EN)
#define FIRST_GROUPS (ALL_GROUPS & ~SW_GROUP1_EN)
#define SECOND_GROUPS (ALL_GROUPS & ~SW_GROUP0_EN)

// Control of SHUFFLE: element (lane & 7) ^ distance of the lane's own group, in every byte of the lane.
inline uchar256 exchange(const int distance)
{
    int64 lane = (int64)V_LANE_ID_32;
    int64 control = v_i32_or_b(v_i32_and_b(v_i32_xor_b(lane, distance), 7), 0x80);
    control = v_i32_or_b(control, v_i32_shl_b(v_i32_and_b(lane, 8), 2));
    control = v_i32_or_b(control, v_i32_shl_b(control, 8));
    control = v_i32_or_b(control, v_i32_shl_b(control, 16));
    return (uchar256)control;
}
"""
"""What a reduction across lanes needs (toolchain.md 2.5, without LUT)."""


def type_name(reg: Reg) -> str:
    """Of each part for predicates, of the register otherwise."""
    return _TYPES[(reg.type, reg.parts)]


def is_pair(operand: Operand, casts: Container[str]) -> bool:
    """A pair with a name: bit casts are written part by part."""
    return isinstance(operand, Reg) and operand.parts == 2 and operand.name not in casts


class Intrinsics:
    """Writes operations. A bit cast costs nothing and is written where its result is used."""

    def __init__(self, kernel: Kernel, lines: Lines, outer: Intrinsics | None = None) -> None:
        """`outer`: that of the block around this one, whose registers are known here."""
        self.kernel = kernel
        self.lines = lines
        self._casts: dict[str, tuple[str, Operand]] = dict(outer._casts) if outer is not None else {}

    def part(self, reg: Reg, part: int) -> str:
        """One part of a register; a uniform one stands for both."""
        if reg.name in self._casts:
            macro, source = self._casts[reg.name]
            return f"{macro}({self._operand(source, part)})"
        if reg.parts == 1:
            return reg.name
        return f"{reg.name}_v{part + 1}" if reg.type is VType.PRED else f"{reg.name}.v{part + 1}"

    def write(self, s: VectorOp) -> None:
        match s.op:
            case "bits" | "unbits":
                self._casts[s.dest.name] = (_BIT_CASTS[s.op], s.args[0])
            case "lane_id_16":
                self.lines.add(f"const short128 {s.dest.name} = (short128)V_LANE_ID_16;")
            case "lane_id":
                self._lane_id(s.dest)
            case "shuffle_control":
                self._shuffle_control(s)
            case "group_control":
                (group,) = (a.value for a in s.args if isinstance(a, Imm))
                self.lines.add(f"const uchar256 {s.dest.name} = {'0xA0' if group else '0x80'};")
            case _ if s.op in WIDENING:
                self._widen(s)
            case _ if s.op in NARROWING:
                self._narrow(s)
            case "widen_add":
                x, added = (a.name for a in s.args if isinstance(a, Reg))
                self._call(_assigned(s), "v_bf16_madd_acc32_b", [x, "1.0f", added])
            case "bmul" | "bmac":
                self._call(_assigned(s), f"v_bf16_{s.op[1:]}_acc32_b", [a.name for a in s.args if isinstance(a, Reg)])
            case _ if s.op in ROUNDING and self._is_pair(s.args[0]) and s.pred is None:
                self._round(s)
            case _ if self._both_parts_at_once(s):
                pass
            case _:
                self._part_by_part(s)

    def _operand(self, operand: Operand, part: int) -> str:
        match operand:
            case Reg():
                return self.part(operand, part)
            case Imm():
                return number(operand.value)
            case Scalar(value=Attr() as attribute):
                return attribute.name
            case Scalar():
                return integer(operand.value)

    def _call(self, head: str, function: str, args: Sequence[str]) -> None:
        self.lines.listing(f"{head}{function}(", args, ");")

    # --- part by part -----------------------------------------------------------------------------------------------

    def _part_by_part(self, s: VectorOp) -> None:
        together = s.dest.parts == 1 or s.dest.type is VType.PRED
        if s.fresh and not together:
            self.lines.add(f"{type_name(s.dest)} {s.dest.name};")
        for part in range(s.dest.parts):
            declare = f"{type_name(s.dest)} " if s.fresh and together else ""
            self._one_part(s, part, f"{declare}{self.part(s.dest, part)} = ")

    def _one_part(self, s: VectorOp, part: int, head: str) -> None:
        args = [self._operand(a, part) for a in s.args]
        match s.op:
            case "pand" | "por" | "hand" | "hor":
                self.lines.add(f"{head}{args[0]} {'&' if s.op.endswith('and') else '|'} {args[1]};")
            case "bneg":
                self._call(head, "v_bf16_mul_b", [*args, "-1.0f"])
            case "pnot" | "hnot":
                self.lines.add(f"{head}~{args[0]};")
            case "imul":
                self.lines.add(f"{head}{args[0]} * {args[1]};")
            case "mov" | "imov" | "bmov" if s.pred is None:
                self.lines.add(f"{head}{args[0]};")
            case "part1" | "part2":
                (source,) = (a for a in s.args if isinstance(a, Reg))
                self.lines.add(f"{head}{self.part(source, int(s.op[-1]) - 1)};")
            case "iasr":
                self._call(head, "v_i32_ash_b", [args[0], f"-{args[1]}"])
            case "ftoi" | "ftoi_down":
                self._call(head, "v_convert_f32_to_i32_b", [args[0], "SW_RZ" if s.op == "ftoi" else "SW_RD"])
            case "floor":
                self._call(head, "v_f32_nearbyint_b", [args[0], "SW_RD"])
            case _ if s.op in ROUNDING:
                self._call(head, s.op, args)
            case "swap_dual_groups_near" | "swap_dual_groups_far":
                order = _SWAPPED_DUAL_GROUPS[s.op]
                rest = [args[0], "0xFFFFFFFF", order, "ALL_DUAL_GROUPS", _NOTHING]
                self._call(head, "v_f32_mov_dual_group_all_b", rest)
            case "first_near" | "first_far" | "second_near" | "second_far":
                order, written = _HALVES[s.op]
                kept, moved = args if s.op.startswith("first") else args[::-1]
                rest = [moved, "0xFFFFFFFF", order, f"MkWrA({written})", kept]
                self._call(head, "v_f32_mov_dual_group_all_b", rest)
            case "first_groups":
                self._call(head, "v_f32_mov_group_b", [args[1], "0xFFFFFFFF", "SECOND_GROUPS", args[0]])
            case "second_groups":
                self._call(head, "v_f32_mov_group_b", [args[0], "0xFFFFFFFF", "FIRST_GROUPS", args[1]])
            case "pick_dual_group":
                rest = [args[0], "0xFFFFFFFF", ", ".join([args[1]] * 4), "ALL_DUAL_GROUPS", _NOTHING]
                self._call(head, "v_f32_mov_dual_group_all_b", rest)
            case "swap_groups":
                self._call(head, "v_f32_mov_group_b", [args[0], "0xFFFFFFFF", "ALL_GROUPS", _NOTHING])
            case "shuffle":
                self._call(head, "v_f32_shuffle_b", [*args, "0", _NOTHING])
            case "mac" | "mac_by_parts" | "madd" | "nmadd":
                self._multiply_add(s, args, part, head)
            case _ if s.pred is None:
                self._call(head, f"{_SIMPLE[s.op]}_b", args)
            case _:
                kept = [*args, "0", self.part(s.dest, part), self.part(s.pred, part), "0"]
                self._call(head, f"{_SIMPLE[s.op]}_vb", kept)

    def _multiply_add(self, s: VectorOp, args: list[str], part: int, head: str) -> None:
        if s.pred is not None:
            self._call(head, "v_f32_mac_vb", [*args, "0", self.part(s.pred, part), "0"])
            return
        negate = ["SW_NEG"] if s.op == "nmadd" else []
        fused = s.op in ("madd", "nmadd") and self.kernel.target != "gaudi"
        self._call(head, "v_f32_madd_b" if fused else "v_f32_mac_b", [*args, *negate])

    # --- both parts at once -----------------------------------------------------------------------------------------

    def _both_parts_at_once(self, s: VectorOp) -> bool:
        """False where the device cannot, or where what must be a pair is a cast: those are written by parts."""
        first, *others = s.args
        if not on_both_parts(s, self.kernel.target):
            return False
        if s.op != "sub" and not self._is_pair(first):
            first, others = others[0], [first, *others[1:]]
        if not isinstance(first, Reg) or not self._is_pair(first):
            return False
        if any(isinstance(added, Reg) and not self._is_pair(added) for added in others[1:]):
            return False
        head = _assigned(s)
        second = [self._operand(others[0], part) for part in (0, 1)]
        negate = ["SW_NEG"] if s.op == "nmadd" else []
        match others[1:]:
            case []:
                self._call(head, _X2[s.op], [first.name, *second])
            case [Imm(value=added)]:
                self._call(head, "v_f32_madd_x2_vvsv_b", [first.name, second[0], number(added), second[1], *negate])
            case [Reg() as added] if s.op == "mac":
                self._call(head, "v_f32_mac_x2_b", [first.name, *second, added.name])
            case [Reg() as added]:
                self._call(head, "v_f32_madd_x2_b", [first.name, second[0], added.name, second[1], *negate])
            case _:
                raise AssertionError(s)
        return True

    def _is_pair(self, operand: Operand) -> bool:
        return is_pair(operand, self._casts)

    # --- lanes and conversions --------------------------------------------------------------------------------------

    def _lane_id(self, dest: Reg) -> None:
        if dest.parts == 1:
            self.lines.add(f"const int64 {dest.name} = (int64)V_LANE_ID_32;")
            return
        self.lines.add(f"int128 {dest.name};")
        if self.kernel.lanes is Lanes.EVEN_ODD:
            self.lines.add(f"{dest.name}.v1 = v_i32_shl_b((int64)V_LANE_ID_32, 1);")
            self.lines.add(f"{dest.name}.v2 = v_i32_add_b({dest.name}.v1, 1);")
            return
        self.lines.add(f"{dest.name}.v1 = (int64)V_LANE_ID_32;")
        self.lines.add(f"{dest.name}.v2 = v_i32_add_b({dest.name}.v1, 64);")

    def _shuffle_control(self, s: VectorOp) -> None:
        (distance,) = (a.value for a in s.args if isinstance(a, Imm))
        self.lines.add(f"const uchar256 {s.dest.name} = exchange({distance});")

    def _widen(self, s: VectorOp) -> None:
        (source,) = s.args
        assert isinstance(source, Reg)
        head = _assigned(s)
        if self.kernel.lanes is Lanes.LINEAR and not source.uniform:
            self._call(head, f"convert_{type_name(source)}_to_float128", [source.name, "SW_LINEAR"])
        else:
            self._call(head, f"v_convert_{source.type.value}_to_f32_all_b", [source.name])

    def _narrow(self, s: VectorOp) -> None:
        (source,) = s.args
        assert isinstance(source, Reg)
        name = source.name
        if source.parts == 1:
            name = f"{s.dest.name}_pair"
            self.lines.add(f"float128 {name};")
            self.lines.add(f"{name}.v1 = {source.name};")
            self.lines.add(f"{name}.v2 = {source.name};")
        self._call(_assigned(s), f"v_convert_f32_to_{s.dest.type.value}_all_b", [name])

    def _round(self, s: VectorOp) -> None:
        (source,) = (a.name for a in s.args if isinstance(a, Reg))
        kind = ROUNDING[s.op].value
        narrowed = f"v_convert_f32_to_{kind}_all_b({source})"
        self._call(_assigned(s), f"v_convert_{kind}_to_f32_all_b", [narrowed])


def _assigned(s: VectorOp) -> str:
    """The left side of what writes a whole register, which is declared there unless it is known."""
    return f"{type_name(s.dest)} {s.dest.name} = " if s.fresh else f"{s.dest.name} = "
