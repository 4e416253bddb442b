"""Words and hardware loops of assembly, by hand and as the compiler writes it."""

from __future__ import annotations

import pytest

from tpcgen.toolchain.assembly import HardwareLoop, hardware_loops, words

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
    assert hardware_loops(TEXT) == (HardwareLoop(4, 7, 3, False), HardwareLoop(8, 2, 0, True))


def test_a_program_without_loops():
    assert hardware_loops("\thalt\n") == ()
    assert words("") == 0


def test_a_loop_without_an_end_is_an_error():
    with pytest.raises(ValueError, match="nowhere"):
        hardware_loops("\tloop 0, 8, 1, <, .LBB0_9\n\tnop\n")
