"""Feed damaged input to the readers of transferred files for minutes: each accepts it or reports a finding; none crashes or hangs.

    scripts/fuzz [MINUTES] [SEED]

What is found is written to fuzz-<reader>-<number>.bin in the folder where it was started, and the exit code is 1.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import Finding, IntegrityError, OfflinepackError, raise_on_errors
from offlinepack.ontarget.manifest import parse_manifest, serialize_manifest
from offlinepack.ontarget.signature import check_signatures, read_keys
from offlinepack.ontarget.wheel import check_contents, read_wheel

from ..support.bundles import make_bundle
from .hostile_wheel import ATTACKS, CONTENTS, FILENAME, of

ROOT = Path(__file__).parents[2]
SSHSIG = ROOT / "fixtures" / "vectors" / "sshsig"
SECONDS = 10
"""more than that for one of these small things is a hang"""
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF]


def damaged(good: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A few changes of the kinds that find faults: bits, numbers, cuts, insertions, pieces of others."""
    data = bytearray(good)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        if not data:
            break
        at = chance.randrange(len(data))
        match chance.randrange(7):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                size = chance.choice([1, 2, 4, 8])
                number = chance.choice(NUMBERS) & ((1 << 8 * size) - 1)
                data[at : at + size] = number.to_bytes(size, chance.choice(["little", "big"]))  # type: ignore[arg-type]
            case 2:
                del data[at : at + chance.choice([1, 2, 16, 512, len(data)])]
            case 3:
                data[at:at] = chance.randbytes(chance.choice([1, 2, 16, 512]))
            case 4:
                end = min(len(data), at + chance.choice([4, 30, 46, 512]))
                to = chance.randrange(len(data))
                data[to:to] = data[at:end]
            case 5:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                data[at:at] = other[start : start + chance.choice([8, 64, 512, 4096])]
            case _:
                data[at : at + 1] = chance.choice([b"/", b"..", b"\\", b"\0", b"\n", b'"', b"\xff", b"{", b"-1", b"e9"])
    return bytes(data)


def readers(folder: Path) -> dict[str, tuple[list[bytes], Callable[[bytes], object]]]:
    """Each reader with good and bad examples to begin from."""
    path, _ = make_bundle(folder)
    packed = path.read_bytes()
    tar = gzip.decompress(packed)
    wheels = [of().bytes(), *(attack.make()[1] for attack in ATTACKS + CONTENTS)]
    wheels = [one for one in wheels if len(one) < 100_000]
    data, good = (SSHSIG / "manifest.json").read_bytes(), (SSHSIG / "ed25519.sig").read_bytes()
    lines = [(SSHSIG / "ed25519.pub").read_bytes(), b'a@b namespaces="offlinepack",valid-after="20200101Z" ']
    keys = str(SSHSIG / "ed25519.pub")

    def archive(content: bytes) -> None:
        there = folder / "fuzzed.tar.gz"
        there.write_bytes(content)
        raise_on_errors(IntegrityError, [one for one in open_bundle(there).verify() if isinstance(one, Finding)])

    def wheel(content: bytes) -> None:
        there = folder / FILENAME
        there.write_bytes(content)
        raise_on_errors(IntegrityError, check_contents(read_wheel(there)))

    def allowed(content: bytes) -> None:
        there = folder / "allowed_signers"
        there.write_bytes(content)
        read_keys(str(there))

    return {
        "archive": ([packed], archive),
        "tar": ([tar], lambda content: archive(gzip.compress(content, 1))),
        "wheel": (wheels, wheel),
        "manifest": ([(folder / "manifest.json").read_bytes()], parse_manifest),
        "signature": ([good], lambda content: check_signatures(data, [("x.sig", content)], [keys])),
        "keys": ([lines[0], lines[1] + lines[0]], allowed),
    }


@contextlib.contextmanager
def limited() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds")

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def main(minutes: float = 1.0, seed: int | None = None) -> int:
    seed = int(time.time()) if seed is None else seed
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    chance, counts, bad = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _, made = make_bundle(folder)
        (folder / "manifest.json").write_bytes(serialize_manifest(made))
        known = readers(folder)
        stop = time.monotonic() + 60 * minutes
        for name in itertools.cycle(known):
            if time.monotonic() > stop:
                break
            examples, read = known[name]
            content = damaged(chance.choice(examples), examples, chance)
            try:
                with limited():
                    read(content)
                counts[f"{name}: taken"] += 1
            except OfflinepackError as refused:
                assert refused.findings and all(one.render().isprintable() for one in refused.findings)
                counts[f"{name}: refused"] += 1
            except Exception:
                bad += 1
                kept = Path(f"fuzz-{name}-{bad}.bin")
                kept.write_bytes(content)
                print(f"{name}: {kept}\n{traceback.format_exc()}", file=sys.stderr)
    print(
        f"seed {seed}; " + "; ".join(f"{name} {count}" for name, count in sorted(counts.items())) + f"; crashes {bad}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*(float(one) for one in sys.argv[1:2]), *(int(one) for one in sys.argv[2:3])))
