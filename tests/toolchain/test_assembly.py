"""Words and hardware loops of assembly, by hand and as the compiler writes it."""

from __future__ import annotations

import pytest

from tpcgen.toolchain.assembly import MachineLoop, machine_loops, words

TEXT = """\
\t.text
main:
\tset_indx S1, b11111, I2, SP0 // a comment; { }
{
\tmov S2, 0
\tmov V1, 0
}
\tloop S32, S33, 1, <, .LBB0_4
\tnop
{
\tld_tnsr V2, 0, I2
\tadd.f32 V1, V1, V2
}
\tNOP
{
\tloop 0, 8, 1, <, .LBB0_3, SP1
\tadd.i32 S2, S2, 1
}
\tnop
\tmul.f32 V1, V1, V2
{
\tst_tnsr 1, I2, V1
\tnop
}
.LBB0_3:
\tnop
.LBB0_4:
\thalt
"""


def test_words_and_loops():
    assert words(TEXT) == 12
    assert machine_loops(TEXT) == (MachineLoop(4, 7, 3, False, 2), MachineLoop(8, 2, 0, True, 1))


def test_a_jump_back_is_a_loop_and_one_ahead_is_none():
    text = "\tjmpr .E, %SP1\n\tnop\n.L:\n\tld_tnsr V2, 0, I2\n\tnop\n\tjmpr .L, %SP2\n\tnop\n.E:\n\thalt\n"
    assert machine_loops(text) == (MachineLoop(2, 4, 2, True, 1),)


def test_a_program_without_loops():
    assert machine_loops("\thalt\n") == ()
    assert words("") == 0


def test_a_loop_without_an_end_is_an_error():
    with pytest.raises(ValueError, match="nowhere"):
        machine_loops("\tloop 0, 8, 1, <, .LBB0_9\n\tnop\n")
