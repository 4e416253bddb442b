"""Declarations against the table of intrinsics: exact types, parameter order and defaults; coverage per family."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tpcgen/host/tpc_intrinsics.tsv"
HEADER = ROOT / "tpcgen/host/include/tpc/intrinsics.h"
INCLUDE = ROOT / "tpcgen/host/include"
DTYPE = "f32|bf16|f16|f8|h8|i32|u32|i16|u16|i8|u8|i1|i4|u4|i64"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("gen_tpc_intrinsics", ROOT / "tools/gen_tpc_intrinsics.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def table(target: str) -> list[tuple[str, str, str]]:
    rows = [line.split("\t") for line in TABLE.read_text().splitlines()[1:]]
    return [(name, ret, params) for name, ret, params, targets in rows if target in targets.split(",")]


def declared(target: str) -> set[str]:
    """Names the preprocessor leaves in the header for a target."""
    text, names, on = HEADER.read_text(), set(), True
    for line in text.splitlines():
        if line.startswith("#if"):
            on = ("!defined" in line) == (target == "gaudi")
        elif line == "#endif":
            on = True
        elif on and (match := re.match(r"template <class I = ::tpc::impl> TPC_(?:FN|INTRINSIC) .*? (\w+)\(", line)):
            names.add(match[1])
    return names


def family(name: str) -> str:
    name = re.sub(r"_v?b$", "", name)
    if re.match(r"(s_|v_)?convert_|(u?int_)convert_|[sv]_convert_", name):
        return "convert"
    name = re.sub(rf"^[svi]_({DTYPE})_", "", name)
    name = re.sub(rf"_({DTYPE})$", "", name)
    name = re.sub(r"^(sel2?|cmp)_.*", r"\1", name)
    return re.sub(r"^(get|set)_pad_value_.*", r"\1_pad_value", name)


def test_regenerating_gives_the_same_bytes(generator) -> None:
    assert generator.header(generator.rows()) == HEADER.read_text()


def types(params: str) -> list[tuple[str, bool]]:
    out = []
    for part in filter(None, (p.strip() for p in params.split(","))):
        text, _, default = part.partition("=")
        kind = re.match(r"(.*?[\s*])\w+\s*$", text.strip())[1].strip()
        kind = "tpc::rt_pointer" if kind == "__global void *" else kind.replace("__global ", "").removeprefix("const ")
        out.append((kind, bool(default)))
    return out


@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
def test_signatures_are_those_of_the_table(tmp_path: Path, target: str) -> None:
    names = declared(target)
    lines = ['#include "tpc/tpc.h"', "#include <type_traits>", "#include <utility>", "template <class T> T any();"]
    for name, ret, params in table(target):
        if name not in names:
            continue
        kinds = types(params)
        ret = "tpc::rt_pointer" if "__global" in ret else ret
        lines.append(f"static_assert(std::is_same_v<decltype({name}<>), {ret}({', '.join(k for k, _ in kinds)})>);")
        required = [k for k, has_default in kinds if not has_default]
        lines.append(f"using use_{name} = decltype({name}({', '.join(f'any<{k}>()' for k in required)}));")
        assert [d for _, d in kinds] == sorted(d for _, d in kinds), name
    source = tmp_path / "signatures.cpp"
    source.write_text("\n".join(lines) + "\n")
    command = [
        "g++",
        "-std=c++20",
        "-fsyntax-only",
        "-w",
        "-Wno-psabi",
        "-march=native",
        f"-DTPC_TARGET_{target}",
        f"-I{INCLUDE}",
        str(source),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[:4000]
    assert len(lines) > 2 * 1500


def test_coverage(golden) -> None:
    lines = []
    for target in ("gaudi", "gaudi2"):
        names = declared(target)
        total = Counter(family(name) for name, _, _ in table(target))
        have = Counter(family(name) for name, _, _ in table(target) if name in names)
        assert names <= {name for name, _, _ in table(target)}
        lines.append(f"{target}: {sum(have.values())} of {sum(total.values())} intrinsics")
        lines += [f"  {name:34s} {have[name]:4d} of {total[name]:4d}" for name in sorted(total)]
    golden("\n".join(lines) + "\n")


def test_what_is_missing_is_documented() -> None:
    rows = [
        (re.findall(r"`([^`]+)`", names), {"gaudi": int(gaudi), "gaudi2": int(gaudi2)})
        for names, gaudi, gaudi2 in re.findall(
            r"^\| (`.*`) \| (\d+) \| (\d+) \| [^|]+ \|$", (ROOT / "docs/host.md").read_text(), re.MULTILINE
        )
    ]
    for target in ("gaudi", "gaudi2"):
        missing = {name for name, _, _ in table(target)} - declared(target)
        for patterns, count in rows:
            named = {name for name in missing if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}
            assert len(named) == count[target], (target, patterns, sorted(named))
            missing -= named
        assert not missing
