#!/usr/bin/env python3
"""embed.py OUTPUT PAGE.html PAGE.css PAGE.js: the timeline's page as two C++ strings, the text
before and the text after the data."""
import sys


def literal(text):
    # Compilers need not take literals of any length: many small ones are joined by the preprocessor.
    size = 8000
    return "\n".join(f'R"page({text[i:i + size]})page"' for i in range(0, len(text), size))


def main():
    output, *inputs = sys.argv[1:]
    page, style, script = (open(name, encoding="utf-8").read() for name in inputs)
    page = page.replace("@STYLE@", style.rstrip()).replace("@SCRIPT@", script.rstrip())
    before, after = page.split("@DATA@")
    with open(output, "w", encoding="utf-8") as file:
        file.write('#include "timeline.hpp"\n\nnamespace replay {\n\n')
        for name, text in ("page_before", before), ("page_after", after):
            file.write(f"const std::string_view {name} =\n{literal(text)};\n\n")
        file.write("}  // namespace replay\n")


if __name__ == "__main__":
    main()
