"""What can be said of a page without a browser."""

import json
import re
from html.parser import HTMLParser

EMPTY = {"meta", "input", "path", "circle", "br", "link"}


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []
        self.problems = []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        if len(set(names)) != len(names):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes another element")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


def script_of(page):
    return page[page.rindex("<script>") + len("<script>"):page.rindex("</script>")]


def problems_of(page):
    """A page is one file, well formed, and each element that its script asks for is there."""
    reader = Reader()
    reader.feed(page)
    problems = reader.problems + [f"<{tag}> is not closed" for tag in reader.open]
    problems += [f'id "{name}" twice' for name in set(reader.ids) if reader.ids.count(name) > 1]
    made = set(re.findall(r"\.id = '([\w-]+)'", script_of(page)))
    asked = set(re.findall(r"\$\('([\w-]+)'\)", script_of(page)))
    problems += [f'no element "{name}"' for name in sorted(asked - set(reader.ids) - made)]
    if page.count("<script") != 2:
        problems.append("more than the data and the script")
    for found in re.findall(r"(?:src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest|WebSocket", page):
        problems.append(f"asks for another file: {found}")
    if any(mark in page for mark in ("@STYLE@", "@SCRIPT@", "@DATA@")):
        problems.append("a part was not put in")
    return problems
