"""Commands in turn, as ratios to the first of them."""

import statistics
import subprocess
import time


def run_all(what, ways, rounds, command):
    """Runs `command(words)` for each of `ways`, a dictionary of names and words, in turn, `rounds` times and two before
    that do not count. Prints medians and ratios to the first way, which are medians over rounds. A way that fails is
    said to be skipped, and is in what is returned."""
    times, broken = {way: [] for way in ways}, set()
    for turn in range(rounds + 2):
        for way, words in ways.items():
            if way in broken:
                continue
            line = command(words)
            begin = time.monotonic()
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            took = time.monotonic() - begin
            if done.returncode != 0:
                broken.add(way)
                print(f"SKIPPED {way}: {done.stderr.strip()}")
            elif turn >= 2:
                times[way].append(took)
    first = next(iter(ways))
    for way, taken in times.items():
        if way not in broken:
            ratio = statistics.median(one / other for one, other in zip(taken, times[first]))
            print(f"{what}  {way:24} {statistics.median(taken) * 1000:7.1f} ms, least {min(taken) * 1000:6.1f}  "
                  f"{ratio:.2f} of {first}")
    return broken
