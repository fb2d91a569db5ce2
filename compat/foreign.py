"""Clients in other languages: a folder with a program in it, made ready to run once (npm, Go) and then called.

A folder holds `main.js` and `package.json`, or `main.go`, `go.mod` and `go.sum`. Called by rooms that compare clients.
"""

import shutil
import subprocess
from pathlib import Path


def program(folder: Path, work: Path) -> list[str]:
    """The command of the program in `folder`, built in a folder of `work`; what it depends on is fetched."""
    built = work / f"{folder.parent.name}-{folder.name}"
    if not built.exists():
        shutil.copytree(folder, built)
        is_go = (built / "go.mod").exists()
        command = ["go", "build", "-o", "main", "."] if is_go else ["npm", "install", "--silent", "--no-audit"]
        subprocess.run(command, cwd=built, check=True)
    return [str(built / "main")] if (built / "main").exists() else ["node", str(built / "main.js")]
