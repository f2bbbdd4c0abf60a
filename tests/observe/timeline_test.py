#!/usr/bin/env python3
"""The samples that look at themselves, and their pages in a browser if there is one.

    timeline_test.py OBSERVED OBSERVED_LOOP
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

counts = {"ok": 0, "FAILED": 0, "skipped": 0}


def say(word, name, detail=""):
    counts[word] += 1
    print(f"{word:8}{name}")
    if detail and word != "ok":
        print("        " + detail.strip().replace("\n", "\n        "))


def check(name, condition, detail=""):
    say("ok" if condition else "FAILED", name, str(detail))


def run(*command, cwd=None, timeout=120):
    return subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=timeout)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


def files(program, scratch):
    """What a sample writes: the text of its page, and the events of its Chrome trace."""
    name = program.name
    got = run(program, cwd=scratch)
    check(f"{name} runs", got.returncode == 0, got.stderr)
    page = (scratch / f"{name}.html").read_text(encoding="utf-8")
    trace = json.loads((scratch / f"{name}.json").read_text(encoding="utf-8"))
    check(f"{name}: the page needs nothing else",
          page.count("<script") == 2 and not re.search(r"(src|href)\s*=|@import|url\(|fetch\(|https?:", page))
    check(f"{name}: its Chrome trace and its page have the same steps",
          sum(e["ph"] == "X" and e["cat"] == "step" for e in trace["traceEvents"]) == len(data_of(page)["steps"]) / 8)
    return got, page, trace["traceEvents"]


# Goes through the page as a reader does, and says what it has seen; an error would leave no answer.
PROBE = """<script>
  const press = (key) => dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const seen = { steps: steps.n, lanes: lanes.length, wide: document.documentElement.scrollWidth <= innerWidth };
  const pixel = (x, y) => [...g.getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data].join();
  press('o'); seen.axis = axis; press('o');
  const before = span; press('w'); press('w'); paint(); seen.zoomed = span < before;
  press('f'); paint();
  $('search').value = 'session'; $('search').oninput(); seen.found = matches.length; press('n');
  seen.chosen = chosen?.kind; seen.details = $('details').textContent.includes('session');
  press('['); press(']'); press('p'); press('Escape'); seen.cleared = chosen === null && matches.length === 0;
  const lane = lanes.find((l) => l.steps?.length > 2), i = lane.steps[1];
  span = Math.max(steps.time[1][i] - steps.time[0][i], 1) * 100; from = steps.time[0][i] - span / 2; scroll = 0; paint();
  const x = px((steps.time[0][i] + steps.time[1][i]) / 2), y = lane.y + TOP + lane.h / 2 - scroll;
  seen.hit = hit(x, y)?.i === i; seen.painted = pixel(x, y) !== pixel(x, y + lane.h / 2 + 0.6);
  for (const set of ['step', 'life', 'wait', 'packet', 'phase', 'moment'])
    for (let k = 0; k < setOf(set).n; k++) select({ kind: set, i: k }, true);
  paint();
  document.body.dataset.probe = JSON.stringify(seen);
</script></body>"""


def in_a_browser(name, page, scratch):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        return say("skipped", f"{name}: the page in a browser", "there is no chromium here")
    file = scratch / "probe.html"
    file.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    for width, height in (1400, 900), (600, 800):
        try:
            got = run(browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}",
                      f"--user-data-dir={scratch / 'browser'}", "--dump-dom", file.as_uri(), timeout=60)
        except subprocess.TimeoutExpired:
            got = None
        if got is None or "<body" not in got.stdout:
            return say("skipped", f"{name}: the page in a browser", "it does not run here")
        found = re.search(r'data-probe="([^"]*)"', got.stdout)
        check(f"{name} at {width} pixels: the script runs to its end", found, got.stderr)
        if not found:
            continue
        seen = json.loads(found.group(1).replace("&quot;", '"'))
        expected = {"steps": len(data_of(page)["steps"]) // 8, "lanes": seen["lanes"], "wide": True, "axis": "order",
                    "zoomed": True, "found": seen["found"], "chosen": "step", "details": True, "cleared": True,
                    "hit": True, "painted": True}
        check(f"{name} at {width} pixels: axes, zoom, search, selection, what is under the mouse",
              seen == expected and seen["found"] > 10 and seen["lanes"] > 5, seen)


def main():
    world, loop = (Path(p).resolve() for p in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        got, page, events = files(world, scratch)
        names = {e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
        check("observed: each host is a process", names == {"test", "server", "alice", "bob"}, names)
        instants = {e["name"] for e in events if e["ph"] == "i"}
        check("observed: the faults", {"crashed", "links cut", "links healed", "started"} <= instants, instants)
        check("observed: packets arrive, and are lost",
              any(e["ph"] == "s" and e["cat"] == "packet" for e in events) and
              any("(lost)" in e["name"] for e in events))
        in_a_browser("observed", page, scratch)

        got, page, events = files(loop, scratch)
        check("observed_loop: the stall is named", re.search(r"task 13, spawned at .*observed_loop.cpp:\d+, has held up", got.stderr), got.stderr)
        check("observed_loop: metrics", "\nrondo_loop_step_seconds_count " in got.stdout and "\n# TYPE rondo_loop_tasks gauge\n" in got.stdout, got.stdout)
        longest = max((e for e in events if e["ph"] == "X" and e["cat"] == "step"), key=lambda e: e["dur"])
        check("observed_loop: the longest step is the one that computes", longest["name"] == "task 13", longest)
        in_a_browser("observed_loop", page, scratch)
    print(", ".join(f"{n} {word}" for word, n in counts.items()))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
