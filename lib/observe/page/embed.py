#!/usr/bin/env python3
"""embed.py OUTPUT NAMESPACE HEADER PAGE.html FILE...: a page as two C++ strings, the text before and the text
after the data. The .css files go where the page says @STYLE@, in their order, the .js files to @SCRIPT@."""
import sys


def literal(text):
    # Compilers need not take literals of any length: many small ones are joined by the preprocessor.
    size = 8000
    return "\n".join(f'R"page({text[i:i + size]})page"' for i in range(0, len(text), size))


def main():
    output, namespace, header, page, *parts = sys.argv[1:]

    def read(name):
        return open(name, encoding="utf-8").read()

    def joined(ending):
        return "\n".join(read(name).rstrip() for name in parts if name.endswith(ending))

    text = read(page).replace("@STYLE@", joined(".css")).replace("@SCRIPT@", joined(".js"))
    before, after = text.split("@DATA@")
    with open(output, "w", encoding="utf-8") as file:
        file.write(f'#include "{header}"\n\nnamespace {namespace} {{\n\n')
        for name, half in ("page_before", before), ("page_after", after):
            file.write(f"const std::string_view {name} =\n{literal(half)};\n\n")
        file.write(f"}}  // namespace {namespace}\n")


if __name__ == "__main__":
    main()
