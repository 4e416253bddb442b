"""Which texts are TPC-C: what real kernels write is accepted, what tpc-clang refuses is refused with a hint."""

from __future__ import annotations

import subprocess

import pytest

from tpcgen.toolchain import tpc_clang

KERNEL = "void main(tensor a, tensor b, float s, int n) {{ int5 c = {{0}}; float64 x = v_f32_ld_tnsr_b(c, a); {} v_f32_st_tnsr(c, b, x); }}"

ACCEPTED = {
    "splat": "x = 1.0f; x = 2; x = s; int64 i = 3; bfloat128 q = 1.5f; x = (float64)i;",
    "operators": "x = x * 2.0f + 1.0f - x; x += x; x *= 0.5 * x; x = -x; int64 i = 5; i = (i >> 1) & 3; i |= 4; i = i * 3; i += n;",
    "mixed scalars": "x = s * x; x = x * n; bf16 q = 2.0f; q = q * q + q; float f = q; x = x + f;",
    "bit casts": "int64 i = *(int64*)&x; x = *((float64*)&i); uchar256 u = (uchar256)x; x = as_float64(u); float f = as_float(0x3f800000); x = f;",
    "pairs": "float128 p = {0}; p.v1 = x; p.v2 = p.v1; float128 q = p; x = q.v2; float64_pair_t r = (float64_pair_t){0}; float256 z = {x, x, x, x};",
    "int5": "const int d = 1; c[d] = n; c[0] += 64; int5 e = {n, n, 0, 0, 0}; e = e + c; e += 1; e = e * c - 1;",
    "zero braces": "float64 y = {0}; x = y; bool256 m = {0}; x = v_f32_mov_vb(x, 0, x, to_bool64(m), 0);",
    "predicates": "bool64 m = v_f32_cmp_grt_b(x, 0.0f); m = (m & ~m) | (m ^ m); x = v_f32_mov_vb(x, 0, 1.0f, m, 1);",
    "arrays": "float64 r[4]; for (int k = 0; k < 4; k++) { r[k] = x; } x = r[0] + r[3];",
    "pragmas": '_Pragma("loop_taken") for (int k = 0; k < n; k++) { x += 1.0f; }',
    "goto and switch": "switch (n) { case 0: x = 1.0f; break; default: x = 2.0f; } if (n) goto end; x = 3.0f; end: x = x;",
    "printf": 'printf("x %f\\n", x[3]); printf("%d\\n", n); printf("hello\\n"); printf("%f\\n", (bf16)1.0f);',
    "scalar ternary": "x = n > 3 ? x : x * 2.0f; float f = n ? s : 1.0f; x = f;",
    "global pointers": "__global__ float* g = (__global__ float*)gen_addr(c, a); x = v_f32_ld_g(g); float f = s_f32_ld_g(g); s_f32_st_g(gen_addr(c, b), f);",
    "conversions": "float128 w = v_convert_bf16_to_f32_all_b(v_bf16_ld_tnsr_b(c, a)); x = w.v1; bfloat128 q = v_convert_f32_to_bf16_all_b(w);",
}

REFUSED = {
    "lane read": ("float f = x[3]; x = f;", "no_lane_access_except_in_printf"),
    "lane write": ("x[3] = 1.0f;", "no_lane_access_except_in_printf"),
    "vector condition": ("if (x) x = 1.0f;", "a vector is not a condition"),
    "vector ternary": ("x = (x < 0.0f) ? x : 1.0f;", "v_*_sel_*"),
    "comparison": ("int64 m = x > 0.0f;", "v_*_cmp_*"),
    "braces with a value": ("float64 y = {1.0f}; x = y;", "not_initialised_with_braces"),
    "braces with two values": ("float64 y = {1.0f, 2.0f}; x = y;", "not_initialised_with_braces"),
    "predicate arithmetic": ("bool64 m = v_f32_cmp_grt_b(x, 0.0f); m = m + m;", "only & | ^ ~"),
    "predicate shift": ("bool64 m = v_f32_cmp_grt_b(x, 0.0f); m = m << 1;", "only & | ^ ~"),
    "predicate comparison": ("bool64 m = v_f32_cmp_grt_b(x, 0.0f); m = m == m;", "only & | ^ ~"),
    "predicate condition": (
        "bool64 m = v_f32_cmp_grt_b(x, 0.0f); if (m) x = 1.0f;",
        "vector predicate is not a condition",
    ),
    "pair arithmetic": ("float128 p = {x, x}; p = p + p; x = p.v1;", "no operators on register pairs"),
    "pair times scalar": ("float128 p = {x, x}; p = p * 2.0f; x = p.v1;", "no operators on register pairs"),
    "different vectors": ("int64 i = 1; x = x + i;", "operator+"),
    "implicit vector cast": ("int64 i = x;", "conversion"),
    "narrow integer product": ("short128 h = 2; h = h * h;", "32-bit lanes only"),
    "integer vector division": ("int64 i = 4; i = i / i;", "exists for float64 only"),
    "float bits": ("x = x & x;", "need integer lanes"),
    "index out of range": ("c[5] = 1;", "elements_0_to_4"),
    "index at run time": ("c[n] = 1;", "constant"),
    "unknown intrinsic": ("x = v_f32_frobnicate_b(x);", "v_f32_frobnicate_b"),
    "unimplemented intrinsic": ("reset_sqz_cntr(0, 0);", "reset_sqz_cntr"),
    "wrong operand": ("x = v_f32_add_b(x, v_bf16_ld_tnsr_b(c, a));", "v_f32_add_b"),
    "double of a vector": ("double64 y = x;", "double64"),
}


# Refused here, accepted by the front end of the open compiler (2.7.33), and why.
STRICTER = {
    "vector ternary": "v_*_sel_* says the same and costs the same",
    "comparison": "its back end does not survive the result being used",
    "different vectors": "the bits of one would be taken as the other's",
    "integer vector division": "its back end has none",
    "unimplemented intrinsic": "not written yet",
}


@pytest.mark.full
@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_the_open_compiler_agrees(tmp_path, name: str) -> None:
    compiler = tpc_clang.find()
    if compiler is None:
        pytest.skip("no tpc-clang")
    source = tmp_path / "kernel.c"
    source.write_text(KERNEL.format(ACCEPTED[name] if name in ACCEPTED else REFUSED[name][0]) + "\n")
    command = [str(compiler.path), "-march=gaudi2", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == (name in ACCEPTED or name in STRICTER), done.stderr


@pytest.fixture(scope="module")
def accepted(compile_texts):
    texts = {name: KERNEL.format(text) for name, text in ACCEPTED.items()}
    texts["own exp_f32"] = (
        "float64 exp_f32(float64 x) { return x * 2.0f; }"
        " void main(tensor b) { int5 c = {0}; float64 x = 1.0f; v_f32_st_tnsr(c, b, exp_f32(x)); }"
    )
    return {target: compile_texts(texts, target) for target in ("gaudi", "gaudi2")}


@pytest.mark.parametrize("name", [*ACCEPTED, "own exp_f32"])
@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
def test_accepted(accepted, name: str, target: str) -> None:
    assert accepted[target][name] == ""


@pytest.fixture(scope="module")
def refused(compile_texts):
    return compile_texts({name: KERNEL.format(text) for name, (text, _) in REFUSED.items()})


@pytest.mark.parametrize("name", REFUSED)
def test_refused(refused, name: str) -> None:
    assert REFUSED[name][1] in refused[name]


def test_gaudi_lacks_what_gaudi2_has(compile_texts) -> None:
    texts = {
        "v_f32_mac_x2_b": KERNEL.format("float128 p = {x, x}; p = v_f32_mac_x2_b(p, x, x, p); x = p.v1;"),
        "half128": KERNEL.format("half128 h = 1.0f; x = 0.0f;"),
    }
    assert set(compile_texts(texts, "gaudi2").values()) == {""}
    for name, message in compile_texts(texts, "gaudi").items():
        assert name in message
