"""`gero serve` under a profiler, which begins at SIGUSR1 and tells what it found in the end.

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

from greenlet import getcurrent

from app.cli import main as gero

SAMPLE_SECONDS = 0.001  # of processor time; the kernel's own tick is often longer
SHOWN_OF_ALL = 40
LIBRARIES = sysconfig.get_path("purelib")
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
ROOT = Path(__file__).parents[2]


class Samples:
    """Where the processor time goes."""

    def __init__(self) -> None:
        self._own: Counter[CodeType] = Counter()
        self._whole: Counter[CodeType] = Counter()
        self._lines: Counter[tuple[str, int]] = Counter()

    def enable(self) -> None:
        """Take samples from now on."""
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    def _take(self, _: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self._own[frame.f_code] += 1
        self._lines[frame.f_code.co_filename, frame.f_lineno] += 1
        on_stack = set()
        # SQLAlchemy runs in greenlets, each of which has a stack of its own.
        running = getcurrent()
        while frame is not None:
            on_stack.add(frame.f_code)
            frame = frame.f_back
            if frame is None and running.parent is not None:
                running = running.parent
                frame = running.gr_frame
        self._whole.update(on_stack)

    def tell(self) -> None:
        """Stop, and print the shares: of packages, of functions, of lines."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        total = max(1, self._own.total())
        packages: Counter[str] = Counter()
        for code, count in self._own.items():
            packages[package_of(code.co_filename)] += count
        print(f"{total} samples of processor time")
        ours = {
            code: count
            for code, count in self._whole.items()
            if code.co_filename.startswith(str(ROOT)) and not code.co_filename.startswith(LIBRARIES)
        }
        for title, counts in (
            ("packages", packages),
            ("functions", self._own),
            ("lines", self._lines),
            ("functions, with what they call", self._whole),
            ("functions of ours, with what they call", Counter(ours)),
        ):
            print(f"\n{title}")
            for place, count in counts.most_common(SHOWN_OF_ALL):
                print(f"  {count / total:6.1%}  {shown_place(place)}")


def shown_place(place: CodeType | tuple[str, int] | str) -> str:
    """Return how a function, a line or a package is printed."""
    if isinstance(place, CodeType):
        path = shown_path(place.co_filename)
        return f"{place.co_qualname}  {path}:{place.co_firstlineno}"
    return place if isinstance(place, str) else f"{shown_path(place[0])}:{place[1]}"


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
    profiler = Samples() if kind == "samples" else cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    try:
        gero(arguments, prog_name="gero")
    except SystemExit:
        if isinstance(profiler, Samples):
            profiler.tell()
            return
        profiler.disable()
        for order in ("tottime", "cumulative"):
            pstats.Stats(profiler).sort_stats(order).print_stats(SHOWN_OF_ALL)


if __name__ == "__main__":
    main()
