"""Inside a bubble: read single pages of files that nobody has touched, and note how long each takes.

    python3 probe.py COUNT SEED LEAST_S OUTPUT

A read that took less than LEAST_S seconds found its page in the cache and is no fault. After each few faults
there is a pause, as applications make them: a fill that yields to faults goes on then, and the next fault
meets it.
"""

import json
import os
import random
import sys
import time

BURST, PAUSE_S = 5, 0.8
PLACES = ("/usr/share", "/usr/lib", "/etc", "/usr/bin", "/usr/sbin")


def main() -> None:
    """Collect files, in an order of our own, and read a page of each until there were enough faults."""
    count, seed, least = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    files = []
    for place in PLACES:
        for folder, _, names in os.walk(place):
            files += [os.path.join(folder, name) for name in names]
    randomness = random.Random(seed)
    randomness.shuffle(files)
    faults = []
    for path in files:
        if len(faults) >= count:
            break
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        pages = -(-os.fstat(descriptor).st_size // 4096)
        if pages:
            began = time.monotonic()
            os.pread(descriptor, 4096, randomness.randrange(pages) * 4096)
            took = time.monotonic() - began
            if took >= least:
                faults.append(took)
                if len(faults) % BURST == 0:
                    time.sleep(PAUSE_S)
        os.close(descriptor)
    with open(sys.argv[4], "w") as file:
        json.dump(faults, file)


main()
