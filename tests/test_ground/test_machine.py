"""What this machine is and has left."""

from pathlib import Path

import pytest

from mmvim import machine

FILES = {
    '/proc/cpuinfo': 'processor\t: 0\nmodel name\t: Abacus 3000\n',
    '/proc/meminfo': 'MemTotal: 64 kB\nMemAvailable: 48 kB\n',
    '/sys/fs/cgroup/memory.max': '40000\n',
    '/sys/fs/cgroup/memory.current': '30000\n',
}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of the system, to be changed."""
    files = dict(FILES)

    def read_text(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, 'read_text', read_text)
    return files


def test_the_container_counts_where_it_is_smaller(system: dict[str, str]) -> None:
    assert machine.free_memory() == 10_000
    system['/sys/fs/cgroup/memory.max'] = 'max\n'
    assert machine.free_memory() == 48 * 1024
    del system['/sys/fs/cgroup/memory.max']
    assert machine.free_memory() == 48 * 1024


def test_a_full_container_has_nothing_left(system: dict[str, str]) -> None:
    system['/sys/fs/cgroup/memory.current'] = '50000\n'
    assert machine.free_memory() == 0


def test_a_system_that_does_not_say(system: dict[str, str]) -> None:
    system.clear()
    assert machine.free_memory() is None
    assert isinstance(machine.processor(), str)


def test_description(system: dict[str, str]) -> None:
    about = machine.describe()
    assert about['processor'].startswith('Abacus 3000, ')
    assert set(about) == {'processor', 'threads', 'torch', 'load before the run', 'date'}


@pytest.mark.parametrize(
    ('line', 'units'),
    [
        ('flags\t\t: fpu avx512f avx512_bf16 avx512_vnni', True),
        ('flags\t\t: fpu amx_bf16 amx_tile', True),
        ('Features\t: fp asimd i8mm bf16', True),
        ('flags\t\t: fpu avx512f avx_ne_convert', False),
        ('Features\t: fp asimd', False),
    ],
)
def test_units_for_bfloat16(system: dict[str, str], line: str, units: bool) -> None:
    system['/proc/cpuinfo'] += f'{line}\n'
    assert machine.multiplies_bf16() is units


def test_units_for_bfloat16_of_which_nothing_is_said(system: dict[str, str]) -> None:
    assert machine.multiplies_bf16() is None


def test_the_clock_goes_on() -> None:
    assert machine.clock() < machine.clock()
