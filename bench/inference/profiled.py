"""`gero serve` under a profiler, which tells what it found when the server ends.

    python -m bench.inference.profiled samples|calls serve --port PORT

`samples` interrupts the process after each few milliseconds of processor time, and counts where it
is: a C function's time is its caller's. `calls` is cProfile, which counts calls and tells C
functions apart, and makes small functions look more expensive than they are.
"""

import cProfile
import pstats
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from app.cli import main as gero

SAMPLE_SECONDS = 0.001  # of processor time; the kernel's own tick is often longer
SHOWN = 25
LIBRARIES = sysconfig.get_path("purelib")
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
ROOT = Path(__file__).parents[2]


class Samples:
    """Where the processor time goes."""

    def __init__(self) -> None:
        self._own: Counter[CodeType] = Counter()
        self._whole: Counter[CodeType] = Counter()
        self._lines: Counter[tuple[str, int]] = Counter()

    def start(self) -> None:
        """Take samples from now on."""
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    def _take(self, _: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self._own[frame.f_code] += 1
        self._lines[frame.f_code.co_filename, frame.f_lineno] += 1
        on_stack = set()
        while frame is not None:
            on_stack.add(frame.f_code)
            frame = frame.f_back
        self._whole.update(on_stack)

    def tell(self) -> None:
        """Stop, and print the shares: of packages, of functions, of lines."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        total = max(1, self._own.total())
        packages: Counter[str] = Counter()
        for code, count in self._own.items():
            packages[package_of(code.co_filename)] += count
        print(f"{total} samples; own time by package")
        for package, count in packages.most_common(SHOWN):
            print(f"  {count / total:6.1%}  {package}")
        for title, counts in (("own time", self._own), ("with what it calls", self._whole)):
            print(f"by function, {title}")
            for code, count in counts.most_common(SHOWN if counts is self._own else 2 * SHOWN):
                place = f"{shown_path(code.co_filename)}:{code.co_firstlineno}"
                print(f"  {count / total:6.1%}  {code.co_qualname}  {place}")
        print("by line, own time")
        for (path, line), count in self._lines.most_common(SHOWN):
            print(f"  {count / total:6.1%}  {shown_path(path)}:{line}")


def shown_path(path: str) -> str:
    """Return a path without what is the same for all."""
    for prefix in (LIBRARIES, STANDARD_LIBRARY, str(ROOT)):
        path = path.removeprefix(f"{prefix}/")
    return path


def package_of(path: str) -> str:
    """Return the package, or our folder, that a file belongs to."""
    if path.startswith((LIBRARIES, str(ROOT))):
        return shown_path(path).split("/")[0]
    return f"Python's {Path(path).stem}" if path.startswith(STANDARD_LIBRARY) else path


def main() -> None:
    """Serve until SIGTERM, then print."""
    kind, *arguments = sys.argv[1:]
    samples, calls = Samples(), cProfile.Profile()
    try:
        if kind == "samples":
            samples.start()
            gero(arguments, prog_name="gero")
        else:
            calls.runcall(gero, arguments, prog_name="gero")
    except SystemExit:
        if kind == "samples":
            samples.tell()
        else:
            pstats.Stats(calls).sort_stats("tottime").print_stats(2 * SHOWN)
            pstats.Stats(calls).sort_stats("cumulative").print_stats(2 * SHOWN)


if __name__ == "__main__":
    main()
