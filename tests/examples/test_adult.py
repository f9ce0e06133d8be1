"""The example on the Adult census, on an eighth of the people."""

from __future__ import annotations

import re


def test_the_network_beats_the_more_common_answer(real_data, tmp_path, run_example) -> None:
    lines = (real_data / "adult" / "adult.data").read_text().splitlines(keepends=True)
    some = tmp_path / "adult.data"
    some.write_text("".join(lines[:4000]))
    output = run_example("adult.py", some, "--epochs", 8)
    assert "Missing values filled" in output
    network, common = (float(share) for share in re.findall(r"([\d.]+)% right", output))
    assert network > common + 3
