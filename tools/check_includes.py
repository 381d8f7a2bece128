#!/usr/bin/env python3
"""check_includes.py - which folder may include which.

usage: check_includes.py [ROOT]
A file includes its own folder and folders of a lower level; folders of level 1 do not include each
other; folders of level 4 (the program) see only include/, base, their own and each other's headers,
which proves that the public headers suffice. Prints TAP: one result per folder.
"""
import os
import re
import sys

LEVELS = {
    "include": -1, "models": 0, "base": 0,
    "format": 1, "token": 1, "kernels": 1, "chat": 1, "constrain": 1, "sample": 1,
    "model": 2, "session": 3, "tune": 3,
    "agent": 4, "compare": 4, "picture": 4, "server": 4, "cli": 4,
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def sources(root):
    for top in ("include", "models", "src"):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for name in sorted(files):
                if name.endswith((".c", ".h", ".S")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def folder_of(path):
    """the folder that counts for a path relative to the root, or None"""
    parts = path.split("/")
    name = parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]
    return name if len(parts) > 1 else None


def resolve(root, path, target):
    """where an include leads: relative to the file, then -Iinclude -Isrc -I."""
    places = [os.path.normpath(os.path.join(os.path.dirname(path), target)),
              os.path.join("include", target), os.path.join("src", target), target]
    for place in places:
        if os.path.isfile(os.path.join(root, place)):
            return place
    return None


def allowed(own, other):
    if own == other or other == "include":
        return True
    if LEVELS[own] == -1:
        return False
    if LEVELS[own] == 4:
        return other == "base" or LEVELS[other] == 4
    if own == "base":
        return False
    return LEVELS[other] < LEVELS[own] or (own == "models" and other == "base")


def complaints(root, path):
    own = folder_of(path)
    if own not in LEVELS:
        yield "%s: folder '%s' has no level" % (path, own)
        return
    with open(os.path.join(root, path), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            place = resolve(root, path, match.group(1))
            if place is None:
                yield "%s:%d: \"%s\" is nowhere" % (path, number, match.group(1))
                continue
            other = folder_of(place)
            if other not in LEVELS:
                yield "%s:%d: includes %s, whose folder has no level" % (path, number, place)
            elif not allowed(own, other):
                yield "%s:%d: %s (level %d) includes %s (level %d)" % (
                    path, number, own, LEVELS[own], place, LEVELS[other])


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    found = {}
    for path in sources(root):
        found.setdefault(folder_of(path), []).extend(complaints(root, path))
    print("1..%d" % len(found))
    bad = 0
    for number, (folder, lines) in enumerate(sorted(found.items()), 1):
        print("%sok %d - includes of %s" % ("not " if lines else "", number, folder))
        for line in lines:
            print("# " + line)
        bad += bool(lines)
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())
