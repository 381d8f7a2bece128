#!/usr/bin/env python3
"""terminal_picture.py - runs a session of the program in a terminal and writes it as SVG.

usage: terminal_picture.py [--slm build/slm] [--check] [--text] [OUT]
The picture is docs/terminal.svg unless OUT is given. Every character after a shell prompt is what
the program itself wrote to a pseudo-terminal of 80 columns; the commands are listed in SESSION.
Conversations go to an empty folder of their own, and the demo model is greedy, so the same program
gives the same picture. --check runs the session and compares instead of writing: only the numbers
of the machine (instruction set, threads, memory) may differ. --text prints the screen as text.
"""
import argparse
import difflib
import fcntl
import html
import os
import pty
import re
import select
import shutil
import struct
import sys
import tempfile
import termios
import time

COLUMNS, ROWS = 80, 40
SECONDS = 120  # for one command
CTRL_D = "\x04"

# A command, and what is typed at its own prompts.
SESSION = [
    ("slm run demo 'What is 4587 + 968?'", []),
    ("slm run demo 'Extract name, amount as JSON: Ben paid 45 dollars on 3 May.'", []),
    ("slm chat demo", ["My name is Anna.", "What is the capital of Peru?", CTRL_D]),
    ("slm chat demo --resume", ["/think off", "What is my name?", CTRL_D]),
]


# ---- the terminal: a grid of (character, style), as much of ECMA-48 as the program uses ----

class Screen:
    """Rows grow without end; a style is (bold, dim, colour)."""
    PLAIN = (False, False, None)
    SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([ -/]*)([@-~])|\x1b\][^\x07]*\x07|\x1b[=>78]|\x1b\([A-Z0-9]")

    def __init__(self):
        self.rows = [[]]
        self.row = self.col = 0
        self.style = self.PLAIN

    def put(self, character):
        if self.col == COLUMNS:
            self.newline()
            self.col = 0
        line = self.rows[self.row]
        line.extend([(" ", self.PLAIN)] * (self.col + 1 - len(line)))
        line[self.col] = (character, self.style)
        self.col += 1

    def newline(self):
        self.row += 1
        while len(self.rows) <= self.row:
            self.rows.append([])

    def feed(self, text):
        at = 0
        while at < len(text):
            found = self.SEQUENCE.match(text, at)
            if found:
                if found.group(3):
                    self.control(found.group(1), found.group(3))
                at = found.end()
                continue
            self.character(text[at])
            at += 1

    def character(self, c):
        if c == "\n":
            self.newline()
        elif c == "\r":
            self.col = 0
        elif c == "\b":
            self.col = max(0, self.col - 1)
        elif c == "\t":
            self.col = min(COLUMNS - 1, (self.col // 8 + 1) * 8)
        elif c >= " " and c != "\x7f":
            self.put(c)

    def control(self, parameters, final):
        numbers = [int(n) if n.isdigit() else 0 for n in parameters.strip("?").split(";")]
        count = max(1, numbers[0])
        if final == "m":
            for number in numbers:
                self.rendition(number)
        elif final == "K" and numbers[0] == 0:
            del self.rows[self.row][self.col:]
        elif final == "K":
            self.rows[self.row] = []
        elif final == "J" and numbers[0] == 0:
            del self.rows[self.row][self.col:]
            del self.rows[self.row + 1:]
        elif final == "A":
            self.row = max(0, self.row - count)
        elif final == "C":
            self.col = min(COLUMNS - 1, self.col + count)
        elif final == "D":
            self.col = max(0, self.col - count)
        elif final == "G":
            self.col = count - 1

    def rendition(self, number):
        bold, dim, colour = self.style
        if number == 0:
            bold, dim, colour = self.PLAIN
        elif number == 1:
            bold = True
        elif number == 2:
            dim = True
        elif number == 22:
            bold = dim = False
        elif 30 <= number <= 37 or 90 <= number <= 97:
            colour = number % 10 if number < 90 else number - 82
        elif number == 39:
            colour = None
        self.style = (bold, dim, colour)

    def at_prompt(self):
        line = self.rows[self.row]
        return self.col == 2 and [c for c, _ in line] == [">", " "]

    def text(self):
        return ["".join(c for c, _ in line).rstrip() for line in self.rows]


# ---- running ----

def run(screen, slm, command, typed, environment):
    """One command line in a pseudo-terminal; `typed` is sent line by line at the program's prompt."""
    child, master = pty.fork()
    if child == 0:
        os.environ.clear()
        os.environ.update(environment)
        os.execv("/bin/sh", ["sh", "-c", "exec " + command.replace("slm", '"$SLM"', 1)])
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    waiting, pending, end = list(typed), b"", time.monotonic() + SECONDS
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other side is closed
                data = b""
            if not data:
                break
            pending += data
            text = pending.decode("utf-8", "ignore")
            if pending and pending[-1] >= 0x80 and text.encode() != pending:
                continue  # the rest of a character is still to come
            screen.feed(text)
            pending = b""
        elif waiting and screen.at_prompt():
            line = waiting.pop(0)
            os.write(master, (line if line == CTRL_D else line + "\n").encode())
    else:
        sys.exit("terminal_picture: no end after %d s: %s" % (SECONDS, command))
    os.close(master)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0 or waiting:
        sys.exit("terminal_picture: exit code %d from %s\n%s"
                 % (status, command, "\n".join(screen.text())))


def record(slm):
    screen = Screen()
    home = tempfile.mkdtemp()
    environment = {"SLM": os.path.abspath(slm), "SLM_HOME": home, "HOME": home, "PATH": "/usr/bin:/bin",
                   "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    try:
        for command, typed in SESSION:
            screen.feed("\x1b[32m$\x1b[0m \x1b[1m" + command + "\x1b[0m\r\n")
            run(screen, slm, command, typed, environment)
            if screen.col:
                screen.feed("\r\n")
    finally:
        shutil.rmtree(home)
    while screen.rows and not screen.rows[-1]:
        screen.rows.pop()
    return screen


# ---- drawing ----

CELL_WIDTH, CELL_HEIGHT, SIZE, MARGIN, BAR = 8.4, 19, 14, 16, 30
BACKGROUND, FOREGROUND, DIM = "#16191d", "#d7dade", "#848b94"
COLOURS = {1: "#e06c75", 2: "#8fbf7f", 3: "#d6b36a", 4: "#6fa8dc", 5: "#c08adf", 6: "#63b5bf", 7: "#d7dade"}


def runs(line):
    """Neighbours of equal style, blanks at both ends left out: (column, text, style)."""
    start = 0
    while start < len(line):
        end = start
        while end < len(line) and line[end][1] == line[start][1]:
            end += 1
        text = "".join(c for c, _ in line[start:end])
        if text.strip():
            yield start + len(text) - len(text.lstrip()), text.strip(), line[start][1]
        start = end


def span(row, column, text, style):
    bold, dim, colour = style
    fill = DIM if dim else COLOURS.get(colour, FOREGROUND)
    return '<text x="%.1f" y="%d" textLength="%.1f" fill="%s"%s xml:space="preserve">%s</text>' % (
        MARGIN + column * CELL_WIDTH, BAR + MARGIN + 14 + row * CELL_HEIGHT, len(text) * CELL_WIDTH, fill,
        ' font-weight="bold"' if bold else "", html.escape(text, quote=False))


def draw(screen):
    width = int(2 * MARGIN + COLUMNS * CELL_WIDTH)
    height = BAR + 2 * MARGIN + len(screen.rows) * CELL_HEIGHT
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">'
           % (width, height, width, height),
           "<title>A session with slm and its demo model</title>",
           '<rect width="%d" height="%d" rx="8" fill="%s"/>' % (width, height, BACKGROUND),
           '<path d="M0 %d h%d" stroke="#2c3138"/>' % (BAR, width)]
    out += ['<circle cx="%d" cy="%d" r="5" fill="#3d434b"/>' % (MARGIN + 4 + 18 * i, BAR // 2) for i in range(3)]
    out.append('<g font-family="DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace" font-size="%d">' % SIZE)
    for row, line in enumerate(screen.rows):
        out += [span(row, *piece) for piece in runs(line)]
    return "\n".join(out + ["</g>", "</svg>", ""])


def without_machine(picture):
    picture = re.sub(r"\b(ref|avx2|avx512|amx|neon), \d+ threads?", "ISA, N threads", picture)
    picture = re.sub(r"\d+ MiB", "N MiB", picture)
    return re.sub(r' (textLength|width|height|viewBox)="[^"]*"', "", picture).splitlines()


def main():
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--slm", default=os.path.join(top, "build", "slm"))
    options.add_argument("--check", action="store_true")
    options.add_argument("--text", action="store_true")
    options.add_argument("out", nargs="?", default=os.path.join(top, "docs", "terminal.svg"))
    chosen = options.parse_args()
    screen = record(chosen.slm)
    if chosen.text:
        print("\n".join(screen.text()))
        return
    picture = draw(screen)
    if not chosen.check:
        with open(chosen.out, "w", encoding="utf-8") as file:
            file.write(picture)
        return
    with open(chosen.out, encoding="utf-8") as file:
        kept = without_machine(file.read())
    difference = list(difflib.unified_diff(kept, without_machine(picture), "kept", "now", lineterm=""))
    if difference:
        sys.exit("\n".join(difference))


if __name__ == "__main__":
    main()
