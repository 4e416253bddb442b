"""Explanations of plans: text against golden files, the trace, the page in a browser, the command."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tpcgen.kernel.cycles import stage_cost
from tpcgen.kernel.lower import lower
from tpcgen.kernel.tpc_c import render
from tpcgen.machine import MACHINES
from tpcgen.partition.choose import choose
from tpcgen.partition.estimate import estimate
from tpcgen.partition.plan import TpcStage
from tpcgen.partition.simulate import ENGINES
from tpcgen.program import load_text, sizes
from tpcgen.report.explain import explain, to_text
from tpcgen.report.html import to_html
from tpcgen.report.trace import to_json

ROOT = Path(__file__).parents[2]
GPT2 = {"B": 1, "H": 12, "G": 12, "M": 1024, "N": 1024, "D": 64, "E": 64, "W": 256}


def steady(stage, machine, values):
    """What the estimate says for the kernel's members, so that a better kernel does not change the golden files."""
    return replace(estimate(stage, machine, values), members=stage_cost(stage, machine, values).members)


def explanation(source, op, dtype, target, bound, cost=steady):
    program = load_text(source).program(op, T=dtype)
    names = {*program.sizes, *(a.name for a in program.attributes)}
    binding = sizes.bind(program, {k: v for k, v in bound.items() if k in names})
    choice = choose(program, target, binding, cost=cost)
    kernels = [lower(s, target=target, name=s.name) for s in choice.plan.stages if isinstance(s, TpcStage)]
    texts = [(k, render(k)) for k in kernels]
    return explain(op, dtype, target, MACHINES[target], binding, choice, texts, source, cost)


def example(name, dtype="bf16", target="gaudi2", cost=steady, **changes):
    source = (ROOT / "examples" / f"{name}.dsl").read_text()
    return explanation(source, name, dtype, target, GPT2 | changes, cost)


@pytest.mark.parametrize(
    ("name", "dtype", "target"),
    [("causal", "bf16", "gaudi2"), ("window", "f32", "gaudi"), ("linear", "bf16", "gaudi3"), ("full", "bf16", "gaudi")],
)
def test_text(name, dtype, target, golden):
    golden(to_text([example(name, dtype, target)]))


@pytest.mark.parametrize("name", ["causal", "window", "linear"])
def test_formulas_give_the_numbers_beside_them_when_the_sizes_are_put_in(name):
    x = example(name, D=80, E=72, M=1000, N=1000, cost=stage_cost)
    units = {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    for stage in (s for s in x.stages if s.price.engine != "DMA"):
        formula, value = stage.time[0], re.sub(r"(?<=\d),(?=\d{3})", "", stage.time[1])
        if "port" in formula or "reading operands" in formula:
            continue  # the port term and unaligned reads are in the numbers only
        number, unit = re.search(r"= ([\d.]+) (s|ms|us|ns)\b", value).groups()
        engine = re.search(r"engine   (.*?) (?:members a TPC|cycles at)", formula).group(1)
        count = eval(_ceil_to_python(engine), {"max": max, "ceil": math.ceil}, dict(x.binding.values))
        if stage.price.engine == "TPC":
            count *= eval(re.search(r"max\(.*?\)(?= cycles)", value).group(0))
        clock = float(re.search(r"at ([\d.]+) GHz", formula).group(1)) * 1e9
        assert float(number) * units[unit] == pytest.approx(count / clock, rel=6e-3), stage.time
        assert stage.price.engine_seconds >= 0.99 * count / clock
        for line, total in zip(stage.time[2::2], stage.time[3::2], strict=True):
            held = eval(re.search(r"\((.*)\) bytes /", line).group(1), {}, dict(x.binding.values))
            assert f"= {held:,} bytes" in total


def _ceil_to_python(text):
    """`ceil(a / b)` of integers as `-(-(a) // (b))`."""
    while match := re.search(r"ceil\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*) / (\d+)\)", text):
        text = f"{text[: match.start()]}(-(-({match.group(1)}) // {match.group(2)})){text[match.end() :]}"
    return text


def test_the_schedule_in_the_text_can_be_pasted():
    source = (ROOT / "examples" / "causal.dsl").read_text()
    first = explanation(source, "causal", "bf16", "gaudi2", GPT2)
    (block,) = re.findall(r"^    (schedule \{.*\})$", to_text([first]), re.MULTILINE)
    second = explanation(source.replace("\n}\n", f"\n    {block}\n}}\n", 1), "causal", "bf16", "gaudi2", GPT2)
    assert second.choice.plan.label == first.choice.plan.label
    assert second.choice.rejected == ()
    assert second.schedule == first.schedule


def test_the_trace_has_a_lane_per_engine_and_the_times_of_the_schedule():
    x = example("causal")
    data = json.loads(to_json([x]))
    events = data["traceEvents"]
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    own = [e for e in events if e["ph"] == "X" and e["pid"] == 1]
    assert [e["name"] for e in own] == [s.price.name for s in x.stages]
    for event, stage in zip(own, x.stages, strict=True):
        assert lanes[1, event["tid"]] == stage.price.engine
        assert event["ts"] == pytest.approx(stage.span.start * 1e6, abs=1e-5)
        assert event["ts"] + event["dur"] == pytest.approx(stage.span.end * 1e6, abs=1e-5)
    assert set(lanes.values()) == set(ENGINES)
    sliced = [e for e in events if e["ph"] == "X" and e["pid"] == 2]
    assert len(sliced) == len(x.sliced.spans)
    assert all(e["args"]["known by"] == "assumption" for e in sliced)


HOSTILE = """
# <img src=x onerror=alert(1)> </pre></style><script>document.title = "broken"</script>
dtype T in bf16, f32
op causal(Q: T[N, D], K: T[M, D]) -> P: T[N, M] where N <= M
{
    S[q,k] = sum[d](Q[q,d] * K[k,d])
    P[q,k] = softmax[k where k <= q and k < 200](S[q,k])
}
"""


def hostile_page():
    return to_html([explanation(HOSTILE, "causal", "bf16", "gaudi2", {"N": 300, "M": 300, "D": 64})])


def test_the_page_needs_nothing_and_runs_nothing():
    for text in (hostile_page(), to_html([example("window"), example("linear")])):
        assert not re.search(r"<(script|link|img|iframe|object)\b|\b(src|href)=\"|url\(|@import|https?:", text)


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium")
    return found


def run_browser(browser, folder, *arguments):
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]
    return subprocess.run(
        [browser, *flags, *offline, *arguments], capture_output=True, text=True, timeout=180, check=True
    ).stdout


def test_the_page_opens_in_a_browser(browser, tmp_path):
    x = example("causal")
    page = tmp_path / "explain.html"
    page.write_text(to_html([x]) + hostile_page())
    dom = run_browser(browser, tmp_path, "--dump-dom", page.as_uri())
    assert "<title>tpcgen: causal bf16 on gaudi2" in dom
    assert not re.search(r"<(script|img)\b", dom)
    for stage in x.stages:
        assert f"<td>{stage.price.name}</td>" in dom
        assert f"<h2>{stage.price.name} on the {stage.price.engine}</h2>" in dom
    softmax = next(s for s in x.stages if s.tiles is not None)
    kinds = [dom.count(f'<rect class="{kind}"') for kind in ("full", "partial", "empty")]
    own = (softmax.tiles.full, softmax.tiles.partial, softmax.tiles.empty)
    assert all(n >= m for n, m in zip(kinds, own, strict=True))
    assert dom.count('<rect class="mme"') >= 2
    assert "void main(" in dom
    assert "softmax[k where k &lt;= q + N - M]" in dom
    picture = tmp_path / "page.png"
    run_browser(browser, tmp_path, f"--screenshot={picture}", "--window-size=1200,900", page.as_uri())
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size > 20_000, "an empty page is smaller"


def run(*arguments, **environment):
    command = [sys.executable, "-m", "tpcgen.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, cwd=ROOT, timeout=120, check=False
    )


def test_the_command_tells_specs_from_ids(tmp_path):
    spec = tmp_path / "causal.dsl"
    shutil.copy(ROOT / "examples" / "causal.dsl", spec)
    trace, html = tmp_path / "t.json", tmp_path / "p.html"
    bind = "B=1,H=2,G=1,M=128,N=128,D=64,E=64"
    done = run("explain", spec, "--bind", bind, "--dtype", "bf16", "--trace", trace, "--html", html)
    assert done.returncode == 0, done.stderr
    assert "causal bf16 on gaudi2 at B=1 H=2" in done.stdout
    assert "schedule { place S mme;" in done.stdout
    assert json.loads(trace.read_text())["traceEvents"]
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert run("explain", "E104").stdout.startswith("# E104")
    assert "E520" in run("explain", "E9").stderr
    missing = run("explain", tmp_path / "none.dsl")
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


def test_the_command_takes_devices_of_the_user(tmp_path):
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")
    file = tmp_path / "lab.toml"
    file.write_text("[lab]\nlike = 'gaudi2'\n[lab.tpc]\nengines = { value = 12, source = 'half of them' }\n")
    bind = ("--bind", "B=1,H=12,G=12,M=1024,N=1024,D=64,E=64", "--dtype", "bf16")
    lab = run("explain", "examples/causal.dsl", *bind, "--target", "lab", "--machines", file)
    assert lab.returncode == 0, lab.stderr
    assert "on lab at" in lab.stdout
    assert "/ 12) members a TPC" in lab.stdout
    unknown = run("explain", "examples/causal.dsl", *bind, "--target", "lab")
    assert unknown.returncode == 2
    assert "E528" in unknown.stderr
