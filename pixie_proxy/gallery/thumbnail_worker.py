"""The thumbnail worker: a process of its own that decodes images which may be hostile, and knows nothing else.

It is started as a file, isolated and with an empty environment, so it imports Pillow and the standard library only.
Then it locks itself in, as far as the system has locks: no file, no network, no other process, bounded memory and time.

On stdout comes one byte first (1: it is locked in). Then on stdin comes a frame (longest edge in pixels, length, the
image), on stdout goes a frame (a status, the lengths of what follows, a placeholder, a WebP or the reason why there is
none), again and again until stdin ends. Its parent kills it when it takes too long.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import resource
import signal
import struct
import sys
import warnings
from typing import BinaryIO, NamedTuple

from PIL import Image, ImageOps

REQUEST = struct.Struct(">HI")
ANSWER = struct.Struct(">BHI")
STILL, REFUSED, MOVING = 0, 1, 2

MEMORY_BYTES = 768 * 1024 * 1024
CPU_S = 4.0
"""What an image may take of the processor's time. The end of it is a signal that nothing else sends (SIGPROF)."""
PIXELS = 20_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
PLACEHOLDER_PX = 16

_WHOLE_LIFE_CPU_S = 600
_NICENESS = 5
"""Paid answers and pages come first."""


class Thumbnail(NamedTuple):
    """What is made of an image: WebP both; and whether a browser would show it moving."""

    webp: bytes
    placeholder: bytes
    is_animated: bool


def main() -> None:
    """Answer requests until stdin ends."""
    os.nice(_NICENESS)
    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC"):  # no dump, no file, no process
        _limit(getattr(resource, name), 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CPU, _WHOLE_LIFE_CPU_S)
    Image.MAX_IMAGE_PIXELS = PIXELS
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    _warm_up()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    target.write(bytes([lock_in()]))
    target.flush()
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        size_px, length = REQUEST.unpack(head)
        data = source.read(length)
        if len(data) < length:
            return
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            made = thumbnail(data, size_px)
        except (PermissionError, ImportError):  # the lock's doing, not the image's
            os._exit(1)
        except Exception as exc:  # noqa: BLE001 - whatever a decoder says of a hostile file; MemoryError too
            _answer(target, REFUSED, type(exc).__name__.encode())
        else:
            _answer(target, MOVING if made.is_animated else STILL, made.webp, made.placeholder)
            del made
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)  # to read the next one is not this one's work
        del data


def thumbnail(data: bytes, size_px: int) -> Thumbnail:
    """Make a WebP whose longest edge is `size_px` at most: the first frame, upright, with its transparency."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        # Of a JPEG with more pictures than one, browsers show the first.
        is_animated = image.format in FORMATS and getattr(image, "is_animated", False)
        image.draft("RGB", (size_px, size_px))  # JPEG decodes at half or less of its size; others don't mind
        small = _shrunk(image, size_px)
    ImageOps.exif_transpose(small, in_place=True)
    webp = _saved(small, quality=80, method=2)
    small.thumbnail((PLACEHOLDER_PX, PLACEHOLDER_PX))
    return Thumbnail(webp, _saved(small, quality=30, method=4, alpha_quality=30), is_animated)


def _shrunk(image: Image.Image, size_px: int) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # 16 bits a channel: their upper halves
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode not in {"RGB", "RGBA"}:
        exif = image.getexif()
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.getexif().update(exif)
    image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    return image


def _saved(image: Image.Image, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", **options)
    return out.getvalue()


def _answer(target: BinaryIO, status: int, body: bytes, placeholder: bytes = b"") -> None:
    target.write(ANSWER.pack(status, len(placeholder), len(body)) + placeholder + body)
    target.flush()


def _limit(what: int, most: int) -> None:
    """Set a limit for good, where the system has it."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (most, most))


def _warm_up() -> None:
    """Load whatever decoding will need: later no file can be opened."""
    sample = Image.new("RGB", (1, 1))
    sample.getexif()[0x0112] = 6
    for kind in FORMATS:
        out = io.BytesIO()
        sample.save(out, kind, exif=sample.getexif())
        thumbnail(out.getvalue(), PLACEHOLDER_PX)


_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""How the kernel's filter calls them (AUDIT_ARCH_…)."""

_CALLS = {  # what the worker may ask of the kernel: numbers by machine, as in _MACHINES
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "exit": (60, 93),
    "getcwd": (79, 17),  # Pillow asks before it saves
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "tgkill": (234, 131),
    "getrandom": (318, 278),
}

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # _REFUSE: with EPERM


def lock_in() -> bool:
    """Give up for good every system call but those few (seccomp). Returns whether that worked, by trying one."""
    machine = platform.machine()
    try:
        import ctypes  # noqa: PLC0415 - a Python may have been built without it
    except ImportError:
        return False
    if sys.platform != "linux" or machine not in _MACHINES:
        return False
    which = [*_MACHINES].index(machine)
    program = _filter(_MACHINES[machine], [numbers[which] for numbers in _CALLS.values()])
    held = ctypes.create_string_buffer(program, len(program))
    argument = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))  # struct sock_fprog
    prctl, long = ctypes.CDLL(None).prctl, ctypes.c_ulong
    prctl(_PR_SET_NO_NEW_PRIVS, long(1), long(0), long(0), long(0))
    prctl(_PR_SET_SECCOMP, long(_SECCOMP_MODE_FILTER), argument)
    try:
        os.close(os.open("/", os.O_RDONLY))
    except PermissionError:
        return True
    return False


def _filter(machine: int, calls: list[int]) -> bytes:
    """Write the filter in the kernel's byte code: the machine is this one, and the call is one of `calls`."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    checks = [step(_JUMP_IF_EQUAL, number, len(calls) - at) for at, number in enumerate(calls)]
    return b"".join(
        [
            step(_LOAD, 4),  # seccomp_data.arch
            step(_JUMP_IF_EQUAL, machine, 1),
            step(_RETURN, _KILL),
            step(_LOAD, 0),  # seccomp_data.nr
            *checks,
            step(_RETURN, _REFUSE),
            step(_RETURN, _ALLOW),
        ]
    )


if __name__ == "__main__":
    main()
