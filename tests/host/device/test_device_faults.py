"""Every kind of fault is planted once and must be found, with the member, tensor and coordinate it happens at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tpcgen.host.api import Finding, HostLibrary, Launch, RunReport, Session

ROW = (0, 64.0, 0.0, 63.0, 0), (1, 1.0, 0.0, 0.0, 0)
ANY = (0, 0.0, 0.0, 0.0, 1), (0, 0.0, 0.0, 0.0, 1)
Run = Callable[..., RunReport]


def only(report: RunReport, kind: str) -> list[Finding]:
    """The errors, which must all be of one kind."""
    errors = [f for f in report.findings if f.severity == "error"]
    assert {f.kind for f in errors} == {kind}, [str(f) for f in errors]
    return errors


def test_correct_kernel_has_no_finding(run_fault: Run) -> None:
    report = run_fault("copy_rows")
    assert report.findings == ()
    assert report.members == 6
    np.testing.assert_array_equal(report.outputs[0], np.arange(384, dtype=np.float32).reshape(3, 128))


@pytest.mark.parametrize(
    ("input_pattern", "coordinate"),
    [
        (((0, 64.0, 0.0, 62.0, 0), ROW[1]), (63, 1)),
        (((0, 64.0, 1.0, 63.0, 0), ROW[1]), (64, 1)),
        ((ROW[0], (1, 1.0, 1.0, 1.0, 0)), (64, 1)),
    ],
    ids=["end", "start", "row"],
)
def test_read_outside_the_pattern(run_fault: Run, input_pattern: Any, coordinate: Sequence[int]) -> None:
    findings = [f for f in run_fault("copy_rows", patterns=(input_pattern, ROW)).findings if f.kind == "access_pattern"]
    assert {f.tensor for f in findings} == {0}
    assert {f.tensor_name for f in findings} == {"input 0"}
    assert all(f.kernel == "copy_rows" and f.member is not None for f in findings)
    at = {f.coordinate for f in findings if f.member == (int(coordinate[0] == 64), 1, 0, 0, 0)}
    assert at == {tuple(coordinate)}


def test_write_outside_the_pattern(run_fault: Run) -> None:
    row_zero_only = (ROW[0], (1, 0.0, 0.0, 0.0, 0))
    findings = only(run_fault("copy_rows", patterns=(ROW, row_zero_only)), "access_pattern")
    assert {f.tensor_name for f in findings} == {"output 0"}
    assert {f.coordinate for f in findings} == {(0, 1), (64, 1), (0, 2), (64, 2)}


def test_padded_reads_and_dropped_writes_are_no_fault(run_fault: Run) -> None:
    report = run_fault("copy_rows", shape=(3, 65))
    assert report.findings == ()
    assert [t.padded for t in report.tensors] == [3 * 63, 0]
    assert [t.dropped for t in report.tensors] == [0, 3 * 63]
    assert [t.coverage for t in report.tensors] == [1.0, 1.0]


def test_double_write(run_fault: Run) -> None:
    report = run_fault("copy_row_zero", patterns=(ROW, (ROW[0], ANY[1])))
    found = [f for f in report.findings if f.kind == "double_write"]
    assert len(found) == 10
    assert report.counts is not None
    assert report.counts["double_write"] == 2 * 128
    assert all(f.coordinate is not None and f.coordinate[1] == 0 for f in found)
    assert {f.kind for f in report.findings} == {"double_write", "unwritten"}


def test_unwritten(run_fault: Run) -> None:
    [finding] = only(run_fault("copy_rows", geometry=(2, 2)), "unwritten")
    assert finding.coordinate == (0, 2)
    assert "128 of 384" in finding.message


@pytest.mark.parametrize(
    ("kernel", "target", "text"),
    [
        ("big_local", "gaudi2", "82176 bytes of vector local memory; 81920"),
        ("big_local_lookup", "gaudi2", "16640 bytes of vector local memory; 16384 are available, because v_exp_f32"),
        ("big_scalars", "gaudi", "1028 bytes of scalar local memory; 1024"),
    ],
)
def test_local_memory(run_fault: Run, kernel: str, target: str, text: str) -> None:
    [finding] = only(run_fault(kernel, target=target), "local_memory")
    assert text in finding.message


def test_scalar_local_memory_of_gaudi2_suffices(run_fault: Run) -> None:
    report = run_fault("big_scalars", target="gaudi2")
    assert report.findings == ()
    assert (report.vlm_bytes, report.slm_bytes) == (0, 1028)


def test_uninitialised_local(run_fault: Run) -> None:
    findings = only(run_fault("reads_local"), "uninitialised_local")
    assert len(findings) == 6
    assert "stage at vector 1" in findings[0].message
    findings = only(run_fault("reads_local_by_number"), "uninitialised_local")
    assert "byte 256 of VLM" in findings[0].message


def test_raw_hazard(run_fault: Run) -> None:
    findings = only(run_fault("rereads"), "raw_hazard")
    assert len(findings) == 6
    assert all(f.tensor_name == "output 0" and "aso" in f.message for f in findings)
    assert run_fault("rereads_with_aso").findings == ()
    scalar = only(run_fault("rereads_scalar"), "raw_hazard")
    assert "cache_invalidate" in scalar[0].message


@pytest.mark.parametrize("kernel", ["endless", "endless_silent"])
def test_endless_loop(run_fault: Run, kernel: str) -> None:
    [finding] = only(run_fault(kernel, timeout_s=0.5), "timeout")
    assert finding.kernel == kernel
    assert finding.member is not None
    assert "0.5 s" in finding.message


def test_wild_address(run_fault: Run) -> None:
    findings = only(run_fault("wild_address"), "wild_pointer")
    assert "input 0" in findings[0].message
    assert findings[0].member is not None


def test_vectors_by_address(run_fault: Run) -> None:
    def run(right: int, again: int = 0, **how: Any) -> RunReport:
        bits = np.array([right, again], np.int32).view(np.float32)
        return run_fault("by_address", scalars=tuple(map(float, bits)), **how)

    good = run(0, trace=(1, 2))
    assert good.findings == ()
    np.testing.assert_array_equal(good.outputs[0], np.arange(384, dtype=np.float32).reshape(3, 128))
    assert [a.coordinate[:2] for a in good.accesses] == [(64, 2)] * 2
    findings = run(3, findings_per_kind=100).findings
    assert {f.kind for f in findings} == {"access_pattern", "wild_pointer", "unwritten"}
    assert next(f.coordinate for f in findings if f.kind == "access_pattern" and f.member == (1, 1, 0, 0, 0)) == (0, 2)
    assert {f.member for f in findings if f.kind == "wild_pointer"} == {(1, 2, 0, 0, 0)}
    assert "aso" in only(run(0, 1), "raw_hazard")[0].message


@pytest.mark.parametrize(
    ("kernel", "signal"), [("null_pointer", "SIGSEGV at address 0x0"), ("divides_by_zero", "SIGFPE")]
)
def test_crash(run_fault: Run, kernel: str, signal: str) -> None:
    [finding] = only(run_fault(kernel), "crash")
    assert signal in finding.message
    assert finding.kernel == kernel
    assert finding.member is not None


def test_stack_overflow_is_a_crash(run_fault: Run) -> None:
    [finding] = only(run_fault("deep_stack"), "crash")
    assert "SIGSEGV" in finding.message


def test_session_survives_what_its_launches_do(run_fault: Run) -> None:
    assert not run_fault("null_pointer").ok
    assert run_fault("copy_rows").ok


def test_crash_in_the_glue(run_fault: Run) -> None:
    [finding] = only(run_fault("copy_rows", guid="crash_in_glue"), "crash")
    assert "in the glue" in finding.message


def test_unknown_guid(run_fault: Run) -> None:
    report = run_fault("copy_rows", guid="nothing")
    assert report.glue_code == 1
    only(report, "glue")


def test_store_to_input(run_fault: Run) -> None:
    assert {f.tensor_name for f in only(run_fault("stores_to_input"), "store_to_input")} == {"input 0"}


def test_descriptor_that_is_not_there(run_fault: Run) -> None:
    report = run_fault("tensor_five")
    assert {f.kind for f in report.findings} == {"bad_tensor", "unwritten"}


def test_element_size(run_fault: Run) -> None:
    x = np.zeros((3, 128), ml_dtypes.bfloat16)
    report = run_fault("wrong_element", x=x)
    assert "element_size" in {f.kind for f in report.findings}


def test_descriptor_made_larger_than_its_memory(run_fault: Run) -> None:
    report = run_fault("widens_dim", patterns=(ANY, ROW))
    only(report, "out_of_memory_bounds")


def test_reading_another_members_output(run_fault: Run) -> None:
    report = run_fault("reads_neighbour", patterns=(ROW, (ROW[0], ANY[1])))
    kinds = {f.kind for f in report.findings}
    assert "cross_member_read" in kinds or "uninitialised_global" in kinds
    assert kinds <= {"cross_member_read", "uninitialised_global", "raw_hazard"}


def test_order_is_shuffled_by_seed(run_fault: Run) -> None:
    def outcome(seed: int) -> tuple[tuple[int, ...] | None, ...]:
        report = run_fault("reads_neighbour", patterns=(ROW, (ROW[0], ANY[1])), seed=seed)
        return tuple(f.member for f in report.findings)

    assert outcome(3) == outcome(3)
    assert len({outcome(seed) for seed in range(6)}) > 1


def test_nan_everywhere_is_a_warning(run_fault: Run) -> None:
    report = run_fault("nan_everywhere")
    assert report.ok
    assert [(f.kind, f.severity) for f in report.findings] == [("all_nan", "warning")]


@pytest.mark.parametrize("kernel", ["adds_rmw", "adds_by_address"])
def test_rmw_may_meet_but_needs_memset(run_fault: Run, kernel: str) -> None:
    x = np.ones((3, 128), np.float32)
    report = run_fault(kernel, x=x, patterns=(ROW, (ROW[0], ANY[1])), memset=0.5)
    assert report.findings == ()
    np.testing.assert_array_equal(report.outputs[0], np.array([[3.5], [0.5], [0.5]], np.float32).repeat(128, 1))


def test_signature(run_fault: Run) -> None:
    [finding] = only(run_fault("copy_scaled"), "signature")
    assert "takes 1 scalars" in finding.message
    report = run_fault("copy_scaled", scalars=(2.0,))
    assert report.findings == ()
    assert report.outputs[0][1, 3] == 2 * (128 + 3)


def test_pattern_the_graph_compiler_would_refuse(run_fault: Run) -> None:
    report = run_fault("copy_rows", patterns=((ROW[0], (3, 1.0, 0.0, 0.0, 0)), ROW))
    assert "index-space dim 3 of 2" in next(f for f in report.findings if f.kind == "glue_pattern").message
    report = run_fault("copy_rows", patterns=(((0, 64.0, 256.0, 319.0, 0), ROW[1]), ROW))
    assert "glue_pattern" in {f.kind for f in report.findings}


def test_kernel_that_ignores_the_size_of_its_piece(run_fault: Run) -> None:
    [finding] = only(run_fault("ignores_size"), "piece")
    assert finding.tensor_name == "output 0"
    assert "get_index_space_size" in finding.message


def test_memory_limit(run_fault: Run) -> None:
    report = run_fault("copy_rows", shape=(4096, 4096), geometry=(64, 4096), memory_limit=100 << 20)
    only(report, "memory")


def test_printed_text_is_kept(run_fault: Run) -> None:
    report = run_fault("says_hello", geometry=(2, 3))
    assert report.ok
    assert sorted(report.printed.splitlines()) == [f"row {row}" for row in (0, 0, 1, 1, 2, 2)]


def test_trace_of_one_member(run_fault: Run) -> None:
    report = run_fault("copy_rows", trace=(1, 2))
    assert [(a.what, a.tensor, a.coordinate[:2], a.lanes, a.element_bytes) for a in report.accesses] == [
        ("load", 0, (64, 2), 64, 4),
        ("store", 1, (64, 2), 64, 4),
    ]


@pytest.mark.full
def test_sanitizers_find_a_local_overrun(run_fault: Run, fault_library: Callable[..., HostLibrary]) -> None:
    library = fault_library(sanitize=True)
    report = run_fault("overruns_local", library=library)
    assert any("AddressSanitizer" in f.message or "index 2 out of bounds" in f.message for f in report.findings)
    assert run_fault("copy_rows", library=library).findings == ()


def test_fast_library_is_refused(session: Session, fixture_library: Callable[..., HostLibrary]) -> None:
    launch = Launch("fixture_relu_f32", "gaudi2", (np.zeros(3, np.float32),), (((3,), np.dtype(np.float32)),))
    with pytest.raises(ValueError, match="strict"):
        session.run(fixture_library("gaudi2", "fast"), launch)
