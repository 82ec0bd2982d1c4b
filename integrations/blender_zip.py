"""The Blender extension as a zip, the same bytes for the same files: python -m integrations.blender_zip [OUT.zip]."""

import sys
import zipfile
from pathlib import Path

EXTENSION = Path(__file__).parent / "blender"
LICENCE = Path(__file__).parents[1] / "LICENSES/GPL-3.0-or-later.txt"
DAY = (1980, 1, 1, 0, 0, 0)


def build(out: Path) -> Path:
    """Write the zip that Blender 4.2 and later install."""
    files = {path.name: path for path in EXTENSION.iterdir() if path.suffix in (".py", ".toml")}
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted({**files, "LICENSE.txt": LICENCE}.items()):
            entry = zipfile.ZipInfo(name, DAY)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return out


if __name__ == "__main__":
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/partgen-blender.zip")))
