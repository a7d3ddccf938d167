"""Checkpoint files that were not thought of: mutated good ones, and random programs of the opcodes that are allowed.

Each is read, converted and loaded into a model, in a process with 2 GiB beyond what Python and torch take, in at most
10 s: what comes out is a value or one sentence. Shortly in the tests, at length by

    python tests/fuzz_checkpoints.py --files 20000
"""

import argparse
import faulthandler
import logging
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SECONDS = 10
MEMORY = 2 << 30
EXTRA = 512 << 20  # beyond the tensors of the file
ARCH = {'embed_dims': 16, 'depth': 1, 'patch_size': 16, 'patch_stride': 16}
_OPCODES = b'()]}.0123RbQtueaohjqrsXcl\x81\x85\x86\x87\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x93\x94\x96'
_TESTS = Path(__file__).parent

SIZES = (0, 1, 2, 3, 255, 256, 65535, 1 << 20, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, -1, -7)


# --------------------------------------------------------------------------------------------------- programs
class Program:
    """Writes a random pickle of what checkpoints may hold and of what is near to it."""

    def __init__(self, chance: random.Random, names: list[tuple[str, str]], keys: int) -> None:
        self.chance, self.names, self.keys = chance, names, keys
        self.remembered = 0

    def whole(self) -> bytes:
        """A state dict with something else beside it."""
        entries = [self.text('model') + self.weights(), self.text('meta') + self.meta()]
        if self.chance.random() < 0.5:
            entries.append(self.chance.choice((self.some_text(), self.value(1))) + self.value(4))
        self.chance.shuffle(entries)
        return b'\x80\x02}(' + b''.join(entries) + b'u.'

    def weights(self) -> bytes:
        names = ('pos_embed', 'cls_token', 'patch_embed.proj.weight', 'layers.0.mixer.A_log', 'layers.0.mixer.A_b_log')
        return b'}(' + b''.join(self.text(n) + self.tensor() for n in names if self.chance.random() < 0.8) + b'u'

    def meta(self) -> bytes:
        names = self.chance.choice((self.value(4), b'](' + self.some_text() * 3 + b'e'))
        entries = self.text('classes') + names + self.text('palette') + self.value(2)
        return b'}' + self.text('dataset_meta') + b'}(' + entries + b'us'

    def value(self, depth: int) -> bytes:
        kinds: list[Callable[[], bytes]] = [self.number, self.number, self.some_text, self.some_text, self.atom]
        kinds += [self.recall] * bool(self.remembered)
        if depth > 0:
            kinds += [self.tensor, self.storage, self.nest]
            for kind in (self.container, self.call, self.build):
                kinds += [partial(kind, depth - 1)] * 2
        code = self.chance.choice(kinds)()
        if self.chance.random() < 0.3:
            self.remembered += 1
            index = self.remembered if self.chance.random() < 0.99 else self.chance.getrandbits(32)
            code += b'r' + struct.pack('<I', index)
        return code

    def number(self) -> bytes:
        value = self.chance.choice((*SIZES, self.chance.randrange(10)))
        return self.chance.choice((self.whole_number(value), b'G' + struct.pack('>d', value)))

    def whole_number(self, value: int) -> bytes:
        data = value.to_bytes(10, 'little', signed=True)
        return b'\x8a' + bytes([len(data)]) + data

    def text(self, value: str) -> bytes:
        raw = value.encode()
        return b'X' + struct.pack('<I', len(raw)) + raw

    def some_text(self) -> bytes:
        return self.text(self.chance.choice(('', 'a', 'latin1', 'f4', 'S9', '<', 'storage', '\N{SNOWMAN}' * 99)))

    def atom(self) -> bytes:
        return self.chance.choice((b'N', b'\x88', b'\x89', b')', b']', b'}', b'\x8f', b'C\x03abc'))

    def recall(self) -> bytes:
        index = self.chance.randint(1, max(1, self.remembered))
        return b'j' + struct.pack('<I', index) if self.remembered else b'N'

    def name(self) -> bytes:
        module, name = self.chance.choice(self.names)
        return f'c{module}\n{name}\n'.encode()

    def container(self, depth: int) -> bytes:
        items = b''.join(self.value(depth) for _ in range(2 * self.chance.randrange(4)))
        return self.chance.choice((b'(%st', b'](%se', b'}(%su', b'\x8f(%s\x90', b'(%s\x91', b'(%sd')) % items

    def nest(self) -> bytes:
        """Deep, wide by sharing, or within itself."""
        deep = self.chance.choice((3, 50, 150, 5000))
        return self.chance.choice(
            (
                b']' + b'\x85' * deep,
                b']' * deep + b'a' * (deep - 1),
                b')' + b'2\x86' * self.chance.choice((3, 20, 60)),
                b']r\xff\xff\x00\x00j\xff\xff\x00\x00a',
                b'}' + (b'2' + self.text('a') + b'}s') * self.chance.randrange(4) + b'0N' * 0,
                b'\x8f(' + b')' + b'2\x86' * 30 + b'\x90',
            )
        )

    def call(self, depth: int) -> bytes:
        if self.chance.random() < 0.6:
            return self.honest_call(depth)
        arguments = b''.join(self.value(depth) for _ in range(self.chance.randrange(6)))
        if self.chance.random() < 0.2:
            return b'(' + self.name() + arguments + b'o'
        return self.name() + b'(' + arguments + b't' + self.chance.choice((b'R', b'R', b'\x81'))

    def honest_call(self, depth: int) -> bytes:
        """A call with arguments of the right kinds, and of the wrong sizes now and then."""
        row = b'](' + b''.join(self.number() for _ in range(self.chance.randrange(5))) + b'e'
        small = self.whole_number(self.chance.choice((2, 3, *SIZES)))
        subclass = b'ctorch._tensor\n_rebuild_from_type_v2\n('
        dtype = b'cnumpy\ndtype\n(' + self.text(self.chance.choice(('f4', 'i8', 'O8', 'U3', 'f16'))) + b'\x89\x88tR'
        data = b'C' + bytes([8 * self.chance.randrange(4)])
        state = b'(K\x01(' + small + b't' + dtype + b'\x89' + self.chance.choice((row, data + bytes(data[1]))) + b't'
        return self.chance.choice(
            (
                b'c__builtin__\nset\n' + row + b'\x85R',
                b'c__builtin__\nxrange\n' + small + b'\x85R',
                b'ccollections\nOrderedDict\n)R(' + self.text('a') + self.value(depth) + b'u',
                b'ccollections\nCounter\n}(' + small + small + b'u\x85R',
                b'cmmengine.logging.history_buffer\nHistoryBuffer\n' + row + row + b'\x86R',
                b'cnumpy.core.multiarray\n_reconstruct\n)R' + state + b'b',
                b'cnumpy.core.multiarray\nscalar\n' + dtype + data + bytes(data[1]) + b'\x86R',
                b'c_codecs\nencode\n' + self.some_text() + self.text('latin1') + b'\x86R',
                b'cyacs.config\nCfgNode\n)\x81' + self.value(depth) + b'b',
                b'ctorch\nSize\n(' + small + b't\x85R',
                b'ctorch._utils\n_rebuild_parameter\n' + self.tensor() + b'\x89N\x87R',
                subclass + self.name() + self.name() + b'(' + self.storage() + b'tNtR',
            )
        )

    def build(self, depth: int) -> bytes:
        hooks = self.chance.choice(('_backward_hooks', '_metadata', '_log_history', '__class__', 'max_length'))
        state = self.chance.choice((self.value(depth), b'}' + self.text(hooks) + self.value(depth) + b's'))
        target = self.chance.choice((self.tensor, self.name, lambda: self.honest_call(depth)))()
        return target + state + b'b'

    def storage(self) -> bytes:
        kind = self.chance.choice(('Float', 'Half', 'Long', 'ComplexFloat', 'Bool', 'Double'))
        count = self.chance.choice((4, 16, *SIZES)) if self.chance.random() < 0.03 else 2
        key = str(self.chance.randrange(self.keys) if self.chance.random() < 0.98 else self.keys + 99)
        parts = self.text('storage'), f'ctorch\n{kind}Storage\n'.encode(), self.text(key), self.text('cpu')
        return b'(' + b''.join(parts) + self.whole_number(count) + b'tQ'

    def tensor(self) -> bytes:
        axes = self.chance.randrange(4)
        numbers = (0, 1, 1, 1) if self.chance.random() < 0.95 else (*SIZES, 2)
        size, stride = (
            b'(' + b''.join(self.whole_number(self.chance.choice(numbers)) for _ in range(axes)) + b't'
            for _ in range(2)
        )
        offset = self.whole_number(self.chance.choice(SIZES) if self.chance.random() < 0.03 else 0)
        return (
            b'ctorch._utils\n_rebuild_tensor_v2\n(' + self.storage() + offset + size + stride + b'\x89'
            b'ccollections\nOrderedDict\n)RtR'
        )


# --------------------------------------------------------------------------------------------------- mutations
def mutated(chance: random.Random, data: bytes, times: int) -> bytes:
    """Bytes changed, cut, doubled, or replaced by numbers of the edge, a few times."""
    data = bytearray(data)
    for _ in range(times):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = chance.randrange(256)
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[at : at + chance.choice((1, 2, 8, 1000))]
        elif kind == 3:
            data[at:at] = data[at : at + chance.choice((1, 4, 60, 1000))]
        elif kind == 4:
            number = struct.pack('<q', chance.choice(SIZES))[: chance.choice((1, 2, 4, 8))]
            data[at : at + len(number)] = number
        else:
            data[at : at + 1] = bytes([chance.choice(_OPCODES)])
    return bytes(data)


def with_program(path: Path, source: Path, change: Callable[[bytes], bytes], compress: bool = False) -> None:
    """Copy an archive with another pickle in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            content = old.read(name)
            method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            new.writestr(name, change(content) if name.endswith('data.pkl') else content, method)


def write_case(chance: random.Random, seeds: list[Path], names: list[tuple[str, str]], path: Path) -> None:
    """Write the file of one case."""
    source = chance.choice(seeds)
    is_zip = source.read_bytes()[:2] == b'PK'
    kind = chance.random()
    times = chance.choice((1, 1, 2, 5, 30))
    if kind < 0.35 and is_zip:
        with_program(path, source, lambda _: Program(chance, names, 4).whole(), chance.random() < 0.02)
    elif kind < 0.6 and is_zip:
        with_program(path, source, lambda program: mutated(chance, program, times))
    elif kind < 0.7:
        data = source.read_bytes()
        end = chance.randrange(len(data))
        path.write_bytes(mutated(chance, data[end:], times) if chance.random() < 0.3 else data[:end])
    elif kind < 0.85:  # where the sizes of archives are
        data = source.read_bytes()
        end = chance.choice((22, 100, 500, 3000))
        path.write_bytes(data[:-end] + mutated(chance, data[-end:], times))
    elif kind < 0.93:  # where the pickles are
        data = source.read_bytes()
        path.write_bytes(mutated(chance, data[:3000], times) + data[3000:])
    else:
        path.write_bytes(mutated(chance, source.read_bytes(), times))


# ------------------------------------------------------------------------------------------------------- running
def make_seeds(folder: Path) -> list[Path]:
    """Good files: of a run, of a published classifier, in both formats."""
    import torch
    from test_checkpoints.test_read import runner_checkpoint

    from mmvim.checkpoints import to_official
    from mmvim.models.backbones.vim import Vim

    state = Vim(ARCH, pretrain_img_size=64).state_dict()
    official = to_official({**state, 'head.weight': torch.ones(3, 16)})
    contents = {
        'run': runner_checkpoint(),
        'official': {'model': official, 'epoch': 3},
        'ours': {'state_dict': state, 'meta': {'dataset_meta': {'classes': ('a', 'b')}}},
    }
    paths = []
    for name, content in contents.items():
        for new in (True, False):
            paths.append(folder / f'{name}-{"zip" if new else "legacy"}.pth')
            torch.save(content, paths[-1], _use_new_zipfile_serialization=new)
    return paths


def outcome(path: Path, target: Path, model: Any) -> str:
    """What becomes of a file: 'value' or the kind of the sentence.

    Raises:
        AssertionError: if it is no sentence.
    """
    from mmvim.checkpoints import load_backbone, read
    from mmvim.checkpoints.convert import convert

    def attempt(action: Callable[[], Any]) -> str:
        try:
            action()
        except (ValueError, RuntimeError, FileNotFoundError) as error:
            sentence, (frame, _) = str(error), list(traceback.walk_tb(error.__traceback__))[-1]
            by_us = frame.f_globals.get('__name__', '').startswith('mmvim.')
            assert by_us and '\n' not in sentence and len(sentence) < 2000 and path.name in sentence, sentence[:3000]
            return next((sign for sign in ('refused', 'damaged', 'memory') if sign in sentence), 'other')
        return 'value'

    result = attempt(lambda: read(path))
    if result == 'value':
        attempt(lambda: convert(path, target, force=True))
        attempt(lambda: convert(path, target, to='official', force=True))
        attempt(lambda: load_backbone(model, path))
    return result


def forget_peak() -> None:
    """Let the largest memory of this process be the present one."""
    Path('/proc/self/clear_refs').write_text('5')


def peak() -> tuple[int, int]:
    """Largest memory of this process since :func:`forget_peak`, and the present one, in bytes."""
    fields = dict(line.split(':') for line in Path('/proc/self/status').read_text().splitlines())
    return tuple(int(fields[key].split()[0]) << 10 for key in ('VmHWM', 'VmRSS'))


def child(folder: Path, first: int, last: int) -> None:
    """Try the cases from ``first`` to ``last``; dies at one that crashes, hangs or has no sentence."""
    import torch

    from mmvim.checkpoints.builders import DTYPES, TABLE
    from mmvim.models.backbones.vim import Vim

    torch.set_num_threads(1)
    names = [*TABLE, *[('torch', name) for name in DTYPES][:3], ('yacs.config', 'CfgNode'), ('a', 'b')]
    seeds = sorted(folder.glob('*-*.pth'))
    model = Vim(ARCH, pretrain_img_size=32)
    path, target = folder / f'case{first}.pth', folder / f'converted{first}.pth'
    outcome(seeds[0], target, model)  # whatever is loaded late
    logging.disable()
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in range(first, last):
        print(f'\n{number}', flush=True)
        write_case(random.Random(number), seeds, names, path)
        forget_peak()
        before = peak()[1]
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        start = time.perf_counter()
        result = outcome(path, target, model)
        seconds = time.perf_counter() - start
        faulthandler.cancel_dump_traceback_later()
        extra = max(0, peak()[0] - before - path.stat().st_size)
        assert extra < EXTRA, f'{extra} bytes'
        print(f'\n{number} {result} {seconds} {extra}', flush=True)


def fuzz(folder: Path, first: int, last: int) -> tuple[Counter[str], list[int], float, int]:
    """Try cases in a process of their own, and go on in another one after a case that fails.

    Returns:
        Outcomes; numbers of the cases that failed; seconds of the slowest; bytes of the largest.
    """
    results: Counter[str] = Counter()
    failed: list[int] = []
    slowest, largest = 0.0, 0
    environment = {**os.environ, 'PYTHONPATH': f'{_TESTS.parent}{os.pathsep}{_TESTS}'}
    while first < last:
        command = [sys.executable, __file__, '--child', str(folder), str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        lines = [line.split() for line in done.stdout.splitlines() if line[:1].isdigit()]
        for line in lines:
            if len(line) == 4:
                results[line[1]] += 1
                slowest, largest = max(slowest, float(line[2])), max(largest, int(line[3]))
        if done.returncode == 0:
            break
        if not lines:
            raise RuntimeError(f'no case was begun: {done.stderr[-3000:]}')
        failed.append(int(lines[-1][0]))
        print(f'case {failed[-1]} failed ({done.returncode})\n{done.stderr[-3000:]}', file=sys.stderr)
        first = failed[-1] + 1
    return results, failed, slowest, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--files', type=int, default=20_000, help='default: %(default)s')
    parser.add_argument('--first', type=int, default=0, help='number of the first case; default: %(default)s')
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(Path(args.child[0]), int(args.child[1]), int(args.child[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_seeds(Path(folder))
        results, failed, seconds, memory = fuzz(Path(folder), args.first, args.first + args.files)
    print(f'{args.files} files: {dict(results)}; slowest {seconds:.2f} s, largest {memory / 2**20:.0f} MiB')
    print(f'failed: {failed or "none"}')
    sys.exit(bool(failed))


if __name__ == '__main__':
    sys.path[:0] = [str(_TESTS.parent), str(_TESTS)]
    main()
