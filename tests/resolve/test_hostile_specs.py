"""Damaged, hostile and enormous specs through the whole compiler: an artifact or diagnostics, and never a hang."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError

ROOT = Path(__file__).parents[2]
SPECS = {
    path.stem: path.read_text()
    for folder in ("examples", "tests/plan/specs")
    for path in sorted((ROOT / folder).glob("*.dsl"))
}
WORD = re.compile(r"[A-Za-z_]\w*|\d+\.?\d*(?:e-?\d+)?|//|<=|>=|:=|==|!=|->|\.\.|[^\s\w]|\s+")
WORDS = [word for text in SPECS.values() for word in WORD.findall(text) if not word.isspace()]
WORDS += "0 1 2147483647 2147483648 1e400 inf 0.5 - rank scan sum any all default select i32 bool // % or not".split()
SECONDS = 20.0
"""Ten times what the worst of them takes: a slow machine in a loaded minute is no hang."""


def compiled(spec: Path, target: str = "gaudi2") -> bool:
    """Whether it compiles; AssertionError for any other end than an artifact or diagnostics, or too late a one."""
    start = time.process_time()
    try:
        compile_spec(spec, Options(target=target))
    except DiagnosticError as error:
        assert error.diagnostics
        assert str(error)
    else:
        return True
    finally:
        assert time.process_time() - start < SECONDS
    return False


def kind(word: str) -> str:
    if re.fullmatch(r"[A-Za-z_]\w*", word):
        return "name"
    return "number" if word[0].isdigit() else "space" if word.isspace() else "mark"


KINDS: dict[str, list[str]] = {}
for _word in WORDS:
    KINDS.setdefault(kind(_word), []).append(_word)


def words_changed(text: str, rng: random.Random) -> bytes:
    """Mostly a word by another of its kind, of the same spec: what still has a meaning."""
    words = WORD.findall(text)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.choice([at for at, word in enumerate(words) if not word.isspace()])
        own = [word for word in words if kind(word) == kind(words[at])]
        match rng.randrange(6):
            case 0:
                words[at] = rng.choice(WORDS)
            case 1:
                words[at] = ""
            case 2:
                words[at] += " " + rng.choice(own)
            case 3:
                words[at] = rng.choice(KINDS[kind(words[at])])
            case _:
                words[at] = rng.choice(own)
        words = [word for word in words if word]
    return "".join(words).encode()


def bytes_changed(text: str, rng: random.Random) -> bytes:
    data = bytearray(text.encode())
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def damaged(seed: int) -> tuple[str, bytes]:
    rng = random.Random(seed)
    name = rng.choice(list(SPECS))
    change = bytes_changed if rng.random() < 0.15 else words_changed
    return name, change(SPECS[name], rng)


def survive(seeds: range, folder: Path) -> int:
    """How many of them compile."""
    found = 0
    for name in ("window", "linear"):
        (folder / f"{name}.dsl").write_text(SPECS[name])
    for seed in seeds:
        name, data = damaged(seed)
        spec = folder / "spec.dsl"
        spec.write_bytes(data)
        try:
            found += compiled(spec, ("gaudi", "gaudi2")[seed % 2])
        except Exception as error:
            raise AssertionError(f"seed {seed}, from {name}:\n{data.decode(errors='replace')}") from error
    return found


def test_damaged_specs(tmp_path: Path) -> None:
    assert survive(range(100), tmp_path) > 0, "nothing gets as far as the kernels"


@pytest.mark.full
def test_many_damaged_specs(tmp_path: Path) -> None:
    assert survive(range(1000, 4000), tmp_path) > 100


def op(body: str) -> str:
    return f"op f(x: f32[N]) -> y: f32[N] {{ {body} }}\ncheck small {{ N = 5 }}\n"


EXTREMES = {
    "nothing": b"",
    "a mark and nothing": b"\xef\xbb\xbf",
    "a comment": b"# only this",
    "zeros": b"\0" * 1000,
    "ones": b"\xff" * 1000,
    "utf-16": "op f() -> y: f32[] { y[] = 1 }".encode("utf-16"),
    "a megabyte": op("y[i] = x[i]" + "  # x" * 200_000).encode(),
    "brackets": b"(" * 200_000,
    "one name": b"a" * 200_000,
    "digits": op("y[i] = " + "9" * 199_000).encode(),
    "comments": ("# a line\n" * 20_000 + op("y[i] = x[i]")).encode(),
    "blanks": (" " * 199_000 + op("y[i] = x[i]")).encode(),
    "equations": op("\n".join(f"a{k}[i] = x[i]" for k in range(10_000)) + " y[i] = x[i]").encode(),
    "as many equations as an op may have": op(
        "a0[i] = x[i]\n" + "\n".join(f"a{k}[i] = a{k - 1}[i]" for k in range(1, 999)) + " y[i] = a998[i]"
    ).encode(),
    "errors": b"op f(x = 1\n" * 18_000,
    "deep brackets": op("y[i] = " + "(" * 20_000 + "x[i]" + ")" * 20_000).encode(),
    "deep signs": op("y[i] = " + "-" * 20_000 + "x[i]").encode(),
    "deep subscripts": op("y[i] = " + "x[" * 20_000 + "i" + "]" * 20_000).encode(),
    "a long sum": op("y[i] = " + " + ".join(["x[i]"] * 20_000)).encode(),
    "a sum just short enough": op("y[i] = " + " + ".join(["x[i]"] * 99)).encode(),
    "nested maxima": op("y[i] = " + "max(x[i], " * 90 + "0" + ")" * 90).encode(),
    "nested selects": op("y[i] = " + "select(x[i] > 0, x[i], " * 90 + "0" + ")" * 90).encode(),
    "a large literal": op("y[i] = x[i] * " + "9" * 400 + ".5").encode(),
    "large sizes": b"op f(x: f32[N]) -> y: f32[N] { y[i] = exp(x[i]) }\ncheck c { N = 2147483647 }",
    "large products of sizes": b"op f(x: f32[A, B, C]) -> y: f32[A, B, C] { y[i,j,k] = exp(x[i,j,k]) }\n"
    b"check c { A = 100000, B = 100000, C = 100000 }",
    "sizes of 0": b"op f(x: f32[N, D]) -> y: f32[N] { y[i] = sum[d](x[i,d]) }\ncheck c { N = 0, D = 0 }",
    "an attribute of 0 that divides": b"op f(x: f32[N], R: int) -> y: f32[N // R] { y[i] = x[i * R] }\n"
    b"check c { N = 4, R = 0 }",
    "carriage returns": op("y[i] = x[i]").replace(" ", "\r\n").encode(),
    "old carriage returns": op("y[i] = x[i]").replace(" ", "\r").encode(),
    "letters of other scripts": op("ŷ[ı] = x[i] × ２").encode(),
    "right to left": op("y[i] = x[i] # \u202e\u2066").encode(),
    "zero width": op("y[i] = x\u200b[i]").encode(),
    "surrogates": b"op f(x: f32[N]) -> y: f32[N] { y[i] = \xed\xa0\x80 }",
    "uses itself": b'use "spec.dsl"',
    "uses a folder": b'use "."',
    "uses a device": b'use "/dev/null/x"',
    "uses a name with zeros": b'use "a\0b"',
    "many names": op(" ".join(f"let a{k} = N" for k in range(10_000)) + " y[i] = x[i]").encode(),
    "a chain of lets": (op(" ".join(f"let a{k + 1} = a{k} + a{k}" for k in range(300)).replace("a0", "N"))).encode(),
    "a chain of ops": "\n".join(
        ["op g0(x: f32[N]) -> y: f32[N] { y[i] = x[i] }"]
        + [f"op g{k + 1}(x: f32[N]) -> y: f32[N] {{ a = g{k}(x) y = g{k}(a) }}" for k in range(16)]
    ).encode(),
    "many axes": ("op f(x: f32[" + ", ".join(f"A{k}" for k in range(300)) + "]) -> y: f32[] { y[] = 1 }").encode(),
    "many inputs": (
        "op f(" + ", ".join(f"x{k}: f32[N]" for k in range(300)) + ") -> y: f32[N] { y[i] = "
        + " + ".join(f"x{k}[i]" for k in range(90)) + " }\ncheck c { N = 3 }"
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_bytes(EXTREMES[name])
    compiled(spec)


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n\n"])
def test_line_ends_and_byte_order_marks_change_nothing(ending: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_bytes(b"\xef\xbb\xbf" + SPECS["full"].replace("\n", ending).encode())
    assert compiled(spec)
