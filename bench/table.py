#!/usr/bin/env python3
"""table.py - medians and ratios out of the samples that bench/table.sh collected, as Markdown.

usage: bench/table.py OUT.csv [--kind prefill|decode]
Rounds that were disturbed count like the others; their number is printed. Ratio: ours over the better
setting of flash attention, of the medians, and the lowest and highest of single rounds.
"""
import argparse
import csv
import statistics


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as f:
        yield from csv.DictReader(f)


def collect(path):
    """{(file, type, kind, depth, batch): {who: [row, ...]}} in the order of the file."""
    cells = {}
    for row in rows_of(path):
        key = (row["file"], row["type"], row["kind"], int(row["depth"]), int(row["batch"]))
        cells.setdefault(key, {}).setdefault(row["who"], []).append(row)
    return cells


def median(rows):
    return statistics.median(float(r["tok_s"]) for r in rows)


def line_of(key, cell):
    name, type_, kind, depth, batch = key
    ours = cell.get("slm", [])
    if not ours:
        return None
    peers = [rows for who, rows in cell.items() if who != "slm" and rows]
    mine, limit = median(ours), float(ours[0]["limit_tok_s"])
    fields = [name, type_, kind, str(depth), str(batch), f"{mine:.4g}", f"{limit:.4g}",
              f"{100 * mine / limit:.0f} %" if limit > 0 else ""]
    if peers:
        best = max(peers, key=median)
        ratios = [float(a["tok_s"]) / float(b["tok_s"]) for a, b in zip(ours, best)]
        fields += [f"{median(best):.4g}", f"{mine / median(best):.2f}",
                   f"{min(ratios):.2f}-{max(ratios):.2f}"]
    else:
        fields += ["", "", ""]
    fields.append(f"{sum(int(r['disturbed']) for r in ours)} of {len(ours)}")
    return fields


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv")
    parser.add_argument("--kind", choices=("prefill", "decode"))
    options = parser.parse_args()
    head = ["file", "type", "kind", "depth", "batch", "tok/s", "limit", "share", "peer", "ratio",
            "ratio of rounds", "disturbed"]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for key, cell in collect(options.csv).items():
        fields = line_of(key, cell)
        if fields and options.kind in (None, key[2]):
            print("| " + " | ".join(fields) + " |")


if __name__ == "__main__":
    main()
