"""Every source must be named in a meson.build, or in the script `run` of its folder, if that one
compiles it. Otherwise it is silently neither built nor tested.

    listed.py ROOT
"""

import re
import sys
from pathlib import Path


def main():
    root = Path(sys.argv[1])
    count, forgotten = 0, []
    for folder in ("lib", "tests", "samples", "bench"):
        top = root / folder
        lists = "".join(path.read_text() for path in sorted(top.rglob("meson.build")))
        named = set(re.findall(r"'([^'\s]+)'", lists))
        script = (top / "run").read_text() if (top / "run").exists() else ""
        for path in sorted(top.rglob("*.cpp")):
            if path.is_relative_to(root / "tests" / "install"):
                continue
            count += 1
            relative = path.relative_to(top)
            spellings = {str(relative), str(relative.with_suffix("")), path.name, path.stem}
            if not spellings & named and path.name not in script:
                forgotten.append(path.relative_to(root))
    for path in forgotten:
        print(f"{path}: nothing builds it")
    print(f"{count} sources, {len(forgotten)} forgotten")
    return 1 if forgotten else 0


if __name__ == "__main__":
    sys.exit(main())
