"""Sizes of memory as people write them, and what is free on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from rightbatch.advice.memory_limit import Limit, find_limit, free_memory
from rightbatch.byte_sizes import parse_bytes
from rightbatch.errors import OptionError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GB", 8 * 10**9),
        ("512 MB", 512 * 10**6),
        ("2GiB", 2 << 30),
        ("1.5gb", 1_500_000_000),
        ("800000000", 800_000_000),
        (8e9, 8 * 10**9),
        (123, 123),
    ],
)
def test_sizes_of_memory_are_read(text, expected) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("wrong", ["", "8XB", "GB", "-1GB", "0", 0, -5, float("nan"), True, [1]])
def test_what_is_no_size_is_refused_with_what_is_valid(wrong) -> None:
    with pytest.raises(OptionError, match=r"memory_limit=.*give such as '8GB'"):
        parse_bytes(wrong)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n"}


def test_without_control_groups_the_machine_says_what_is_free(tmp_path) -> None:
    write(tmp_path, {**MACHINE, "proc/self/cgroup": "0::/\n"})
    assert free_memory(tmp_path) == Limit(bytes=4000 << 10, source="free on this machine")


def test_a_group_of_version_2_or_one_above_it_bounds_what_is_free(tmp_path) -> None:
    write(
        tmp_path,
        {
            **MACHINE,
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": "1000000\n",
            "sys/fs/cgroup/a/memory.current": "600000\n",
            "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/b/memory.current": "5\n",
        },
    )
    assert free_memory(tmp_path) == Limit(bytes=500_000, source="free in the control group")


def test_a_group_of_version_1_is_found_in_a_container_whose_path_is_the_hosts(tmp_path) -> None:
    write(
        tmp_path,
        {
            **MACHINE,
            "proc/self/cgroup": "4:memory:/docker/abc\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "900000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "200000\n",
        },
    )
    assert free_memory(tmp_path) == Limit(bytes=700_000, source="free in the control group")


def test_a_group_of_version_1_without_a_limit_bounds_nothing(tmp_path) -> None:
    write(
        tmp_path,
        {
            **MACHINE,
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "200000\n",
        },
    )
    assert free_memory(tmp_path) == Limit(bytes=4000 << 10, source="free on this machine")


def test_where_nothing_tells_there_is_no_limit(tmp_path) -> None:
    assert free_memory(tmp_path) is None


def test_a_limit_beyond_what_is_free_is_cut_down_and_says_so() -> None:
    free = free_memory()
    if free is None:
        pytest.skip("this system does not tell what is free")
    limit = find_limit("900TB")
    assert limit is not None
    assert limit.bytes < 1 << 49
    assert limit.source.endswith("less 10%")
