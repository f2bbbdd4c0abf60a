"""What a page says that its program prints is what it prints.

    docs_output.py --extract PAGE OUT     writes the page's program, the first ```cpp block that has a main()
    docs_output.py --compare PAGE PROGRAM runs it, and compares with the next block that has no language

The folders of files are left out: they are those of the build.
"""

import re
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(r"^```(.*)$")


def fenced(text):
    """(language, block) of each block of a page."""
    language, lines = None, []
    for line in text.splitlines():
        fence = FENCE.match(line)
        if not fence:
            lines.append(line)
        elif language is None:
            language, lines = fence.group(1).strip(), []
        else:
            yield language, "\n".join(lines) + "\n"
            language = None


def program_and_output(page):
    program = None
    for language, block in fenced(Path(page).read_text()):
        if program is not None and language == "":
            return program, block
        if program is None and language == "cpp" and re.search(r"\bint main\(", block):
            program = block
    sys.exit(f"{page}: no program with an output below it")


def main():
    what, page, other = sys.argv[1:]
    program, expected = program_and_output(page)
    if what == "--extract":
        Path(other).write_text(program)
        return 0
    done = subprocess.run([other], capture_output=True, text=True)
    printed = re.sub(r"(?<= )\S*/(?=[^/\s]+:\d+ )", "", done.stdout + done.stderr)
    if printed == expected:
        return 0
    print(f"{page} says\n{expected}\nit prints\n{printed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
