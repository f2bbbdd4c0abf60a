"""Builds the programs of docs/tutorial.md and does what its consoles show: each command must print what the page says.

    tutorial.py ROOT COMPILER... -- LINK_ARGUMENTS...

A block of C++ behind a line that names `x.cpp` is the program x. In a ```console block a line that begins with `$ ` is a
command, and what follows its output, in which `...` stands for anything. All commands of the page run in one shell, on ports that are free; what runs in
the background has its output shown by `wait`.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import compiling

PATIENCE = 120
MARK = "=== said"

# What the page needs of netcat, where there is none.
NC = f"""#!{sys.executable}
import socket, sys, threading
address, port = sys.argv[-2], int(sys.argv[-1])
s = socket.create_connection((address, port))
def sends():
    while data := sys.stdin.buffer.raw.read(4096):
        s.sendall(data)
    if "-N" in sys.argv: s.shutdown(socket.SHUT_WR)
threading.Thread(target=sends, daemon=True).start()
while data := s.recv(4096):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
"""


def parse(page):
    """({program: (line, text)}, [(line, command, what it prints)])"""
    programs, commands = {}, []
    language, named, text, start = None, None, [], 0
    for number, line in enumerate(page.splitlines(), 1):
        fence = re.match(r"```(\w*)", line)
        if not fence:
            if language is None:
                names = re.findall(r"`(\w+)\.cpp`", line)
                named = names[0] if names else named
            elif language == "console" and line.startswith("$ "):
                commands.append([number, line[2:], ""])
            elif language == "console":
                commands[-1][2] += line + "\n"
            else:
                text.append(line)
        elif language is None:
            language, text, start = fence[1] or "text", [], number + 1
        else:
            if language == "cpp":
                programs[named] = (start, "\n".join(text) + "\n")
            language = None
    return programs, commands


def free_ports(text):
    """The same text, with a port that is free for each of 7000 to 7099."""
    sockets = {}
    for port in sorted(set(re.findall(r"\b70\d\d\b", text))):
        sockets[port] = socket.socket()
        sockets[port].bind(("127.0.0.1", 0))
    for port, s in sockets.items():
        text = re.sub(rf"\b{port}\b", str(s.getsockname()[1]), text)
        s.close()
    return text


LISTENS = """listens() { until grep -qi ":$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp; do sleep 0.05; done; }"""


def as_script(programs, commands):
    lines = ["set -m", "exec 2>&1", LISTENS]
    for _, command, _ in commands:
        background = re.fullmatch(r"(.*\./(\w+)) &", command)
        if background:
            name = background[2]
            port = re.search(r"bind\(.*, (\d+)\)", programs[name][1])
            command = f"{background[1]} > {name}.out & started+=({name}); listens {port[1]}"
        elif command == "wait":
            command = 'wait; cat "${started[-1]}.out"'
        lines += [command, f"echo '{MARK}'"]
    return "\n".join(lines) + "\n"


def run(folder, script):
    shell = subprocess.Popen(["bash", "-c", script], cwd=folder, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, start_new_session=True,
                             env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LC_ALL": "C"})
    try:
        return shell.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        return shell.communicate()[0] + "\nit does not end"
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(shell.pid)], check=False)  # its servers, if it broke off


def main():
    root, rest = Path(sys.argv[1]), sys.argv[2:]
    compiler, link = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    path = root / "docs" / "tutorial.md"
    programs, commands = parse(free_ports(path.read_text()))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        nc = Path(folder) / "nc"
        nc.write_text(NC)
        nc.chmod(0o755)

        def built(program):
            name, (_, text) = program
            source = Path(folder) / (name + ".cpp")
            source.write_text(text)
            flags = [*compiling.FLAGS, "-I", str(root / "include"), "-o", f"{folder}/{name}"]
            return compiling.run([*compiler, *flags, str(source), *link])

        for (name, (line, _)), said in compiling.try_each(built, list(programs.items())):
            if said:
                failed += 1
                print(f"docs/tutorial.md:{line}: {name}.cpp:\n{said}")
        if not failed:
            said = re.sub(r"(?m)^\[\d+\].*\n", "", run(folder, as_script(programs, commands)))  # bash's words about jobs
            said = said.split(MARK + "\n")
            for (line, command, wanted), got in zip(commands, [*said, *[""] * len(commands)]):
                if not re.fullmatch(re.escape(wanted).replace(r"\.\.\.", ".*"), got):
                    failed += 1
                    print(f"docs/tutorial.md:{line}: {command}\nshould print\n{wanted}but prints\n{got}")
    print(f"{len(programs)} programs, {len(commands)} commands, {failed} complaints")
    return 1 if failed or not programs else 0


if __name__ == "__main__":
    sys.exit(main())
