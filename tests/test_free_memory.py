"""What is free on a machine, told by files in the place of its own."""

from __future__ import annotations

from pathlib import Path

from rightbatch.free_memory import Limit, free_memory


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
