"""Write the retina's constants as a C++ header: `python constants.py retina.py retina_constants.hpp`.

CMake runs this at build time. The module is read and not imported, as a build has no numpy.
"""

import ast
import sys
from pathlib import Path

module, header = map(Path, sys.argv[1:])
constants = {
    node.targets[0].id: ast.literal_eval(node.value)
    for node in ast.parse(module.read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
}
lines = ["#pragma once", "namespace spikehead {"]
for name, value in constants.items():
    camel, several = name.title().replace("_", ""), "[]" if isinstance(value, tuple) else ""
    values = str(value).translate(str.maketrans("()", "{}"))
    lines.append(f"constexpr int k{camel}{several} = {values};")
# A test asks the engine if it was built with today's constants.
lines += [f'constexpr char kRetinaConstants[] = "{constants}";', "}", ""]
header.write_text("\n".join(lines), encoding="utf-8")
